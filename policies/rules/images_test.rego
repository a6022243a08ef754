package convoy.images_test

import data.convoy.images
import rego.v1

digest := "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

pinned := sprintf("registry.example.org/model@%v", [digest])

pod(image) := {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": image}]}}

resource(type, body) := {"resource": {type: {"it": [body]}}}

test_a_digest_passes if count(images.deny) == 0 with input as pod(pinned)

test_a_tag_a_bare_name_and_a_short_digest_are_refused if {
	denied := images.deny with input as pod("model:1.0")
	denied == {"Pod p, container c: its image model:1.0 is not pinned by its digest, so what runs can change behind its name. Write NAME@sha256:DIGEST"}
	count(images.deny) == 1 with input as pod("model")
	count(images.deny) == 1 with input as pod("model@sha256:abc")
	count(images.deny) == 1 with input as pod(sprintf("model@%v:latest", [digest]))
}

test_templates_init_containers_lists_and_image_volumes_are_looked_into if {
	job := {"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {"initContainers": [{"image": "a:1"}]}}}}}}
	count(images.deny) == 1 with input as job
	count(images.deny) == 1 with input as {"apiVersion": "v1", "kind": "List", "items": [pod("a:1")]}
	volume := {"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [{"name": "model", "image": {"reference": "a:1"}}]}}
	count(images.deny) == 1 with input as volume
}

test_terraform_images_are_refused_without_a_digest if {
	denied := images.deny with input as resource("aws_sagemaker_model", {"primary_container": [{"image": "model:1"}]})
	denied == {"aws_sagemaker_model.it: its image model:1 is not pinned by its digest, so what runs can change behind its name. Write NAME@sha256:DIGEST"}
	count(images.deny) == 1 with input as resource("aws_lambda_function", {"image_uri": "${var.image}"})
	count(images.deny) == 0 with input as resource("aws_lambda_function", {"image_uri": sprintf("${aws_ecr_repository.it.repository_url}@%v", [digest])})
}

test_container_definitions_in_an_expression_are_read if {
	count(images.deny) == 1 with input as resource("aws_ecs_task_definition", {"container_definitions": "${jsonencode([{image = \"model:1\"}])}"})
	count(images.deny) == 1 with input as resource("aws_ecs_task_definition", {"container_definitions": "[{\"image\": \"model:1\"}]"})
	count(images.deny) == 0 with input as resource("aws_ecs_task_definition", {"container_definitions": sprintf("${jsonencode([{image = \"%v\"}])}", [pinned])})
}

test_a_machines_image_is_no_container if {
	disk := {"boot_disk": [{"initialize_params": [{"image": "debian-cloud/debian-12"}]}]}
	count(images.deny) == 0 with input as resource("google_compute_instance", disk)
}

test_only_the_registries_that_are_named_are_allowed if {
	rules := object.union(data.images, {"registries": ["registry.example.org/*"]})
	count(images.deny) == 0 with input as pod(pinned) with data.images as rules
	elsewhere := sprintf("elsewhere.example.org/model@%v", [digest])
	denied := images.deny with input as pod(elsewhere) with data.images as rules
	count(denied) == 1
	some message in denied
	contains(message, "comes from none of the registries registry.example.org/*")
}

test_what_is_exempt_passes if {
	rules := object.union(data.images, {"exempt": ["pause:*"]})
	count(images.deny) == 0 with input as pod("pause:3") with data.images as rules
}
