package convoy.encryption_test

import data.convoy.encryption
import rego.v1

resource(type, body) := {"resource": {type: {"it": [body]}}}

refused(type, body) if count(encryption.deny) > 0 with input as resource(type, body)

test_what_must_be_true_is_refused_when_false_missing_or_unknown if {
	denied := encryption.deny with input as resource("aws_ebs_volume", {"encrypted": false})
	denied == {"aws_ebs_volume.it: encrypted is false, so it is not surely encrypted. It must be true"}
	refused("aws_ebs_volume", {})
	refused("aws_ebs_volume", {"encrypted": "${var.encrypted}"})
	not refused("aws_ebs_volume", {"encrypted": true})
}

test_what_must_be_present_may_be_an_expression if {
	not refused("aws_sagemaker_endpoint_configuration", {"kms_key_arn": "${aws_kms_key.it.arn}"})
	refused("aws_sagemaker_endpoint_configuration", {})
	refused("aws_sagemaker_endpoint_configuration", {"kms_key_arn": ""})
}

test_every_block_must_keep_it if {
	refused("aws_instance", {"root_block_device": [{"encrypted": true}], "ebs_block_device": [{"encrypted": true}, {"encrypted": false}]})
	refused("aws_instance", {})
	not refused("aws_instance", {"root_block_device": [{"encrypted": true}]})
}

test_one_of_a_list if {
	refused("aws_lb_listener", {"protocol": "HTTP"})
	not refused("aws_lb_listener", {"protocol": "HTTPS"})
}

test_gcp_and_azure if {
	refused("google_storage_bucket", {"location": "EU"})
	not refused("google_storage_bucket", {"encryption": [{"default_kms_key_name": "${google_kms_crypto_key.it.id}"}]})
	refused("google_vertex_ai_endpoint", {})
	kept := {"https_traffic_only_enabled": true, "min_tls_version": "TLS1_2", "infrastructure_encryption_enabled": true}
	not refused("azurerm_storage_account", kept)
	refused("azurerm_storage_account", object.union(kept, {"https_traffic_only_enabled": false}))
	refused("azurerm_storage_account", object.union(kept, {"min_tls_version": "TLS1_0"}))
}

bucket := {"aws_s3_bucket": {"it": [{"bucket": "models"}]}}

cipher(names) := {"aws_s3_bucket_server_side_encryption_configuration": {"it": [{
	"bucket": names,
	"rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms"}]}],
}]}}

test_a_bucket_needs_its_encryption_beside_it if {
	denied := encryption.deny with input as {"resource": bucket}
	denied == {"aws_s3_bucket.it: nothing in this file encrypts it. Add a aws_s3_bucket_server_side_encryption_configuration for it to the file"}
	count(encryption.deny) == 0 with input as {"resource": object.union(bucket, cipher("${aws_s3_bucket.it.id}"))}
	count(encryption.deny) == 0 with input as {"resource": object.union(bucket, cipher("models"))}
	count(encryption.deny) == 1 with input as {"resource": object.union(bucket, cipher("${aws_s3_bucket.it_too.id}"))}
	count(encryption.deny) == 1 with input as {"resource": object.union(bucket, cipher("${aws_s3_bucket.other.id}"))}
}

manifest(kind, more) := object.union({"apiVersion": "v1", "kind": kind, "metadata": {"name": "it"}}, more)

test_a_secret_with_its_values_is_refused if {
	count(encryption.deny) == 1 with input as manifest("Secret", {"data": {"token": "c2VjcmV0"}})
	count(encryption.deny) == 1 with input as manifest("Secret", {"stringData": {"token": "secret"}})
	count(encryption.deny) == 0 with input as manifest("Secret", {"type": "Opaque"})
}

test_a_secret_in_a_variable_is_refused if {
	variable := {"name": "DB_PASSWORD", "value": "hunter2"}
	denied := encryption.deny with input as manifest("Pod", {"spec": {"containers": [{"env": [variable]}]}})
	denied == {"Pod it: its variable DB_PASSWORD holds a secret as plain text. Take it from a Secret with valueFrom.secretKeyRef"}
}

test_a_secret_from_a_secret_passes if {
	referred := {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}
	count(encryption.deny) == 0 with input as manifest("Pod", {"spec": {"containers": [{"env": [referred, {"name": "MODE", "value": "fast"}]}]}})
}

test_a_way_in_needs_tls if {
	count(encryption.deny) == 1 with input as manifest("Ingress", {"spec": {"rules": []}})
	count(encryption.deny) == 0 with input as manifest("Ingress", {"spec": {"tls": [{"hosts": ["a"]}]}})
}

test_a_storage_class_must_encrypt if {
	class := manifest("StorageClass", {"provisioner": "ebs.csi.aws.com"})
	count(encryption.deny) == 1 with input as class
	count(encryption.deny) == 0 with input as object.union(class, {"parameters": {"encrypted": "true"}})
}

test_a_cluster_that_encrypts_nothing_first_is_refused if {
	count(encryption.deny) == 1 with input as manifest("EncryptionConfiguration", {"resources": [{"resources": ["secrets"], "providers": [{"identity": {}}, {"aescbc": {}}]}]})
	count(encryption.deny) == 0 with input as manifest("EncryptionConfiguration", {"resources": [{"resources": ["secrets"], "providers": [{"aescbc": {}}, {"identity": {}}]}]})
}
