package convoy.tags_test

import data.convoy.tags
import rego.v1

all_of_them := {"owner": "people", "Model": "churn", "cost_centre": "4711"}

bucket(body) := {"resource": {"aws_s3_bucket": {"it": [body]}}}

test_whoever_writes_them_as_the_provider_does_passes if {
	count(tags.deny) == 0 with input as bucket({"tags": all_of_them})
}

test_what_is_missing_is_named if {
	denied := tags.deny with input as bucket({"tags": {"owner": "people", "model": ""}})
	denied == {"aws_s3_bucket.it: its tags lack cost-centre, model. Add them"}
	count(tags.deny) == 1 with input as bucket({})
}

test_the_providers_default_tags_count_unless_the_resource_has_another_provider if {
	provider := {"aws": [{"default_tags": [{"tags": all_of_them}]}]}
	count(tags.deny) == 0 with input as object.union(bucket({}), {"provider": provider})
	count(tags.deny) == 1 with input as object.union(bucket({"provider": "${aws.other}"}), {"provider": provider})
	aliased := {"aws": [{"alias": "other", "default_tags": [{"tags": all_of_them}]}]}
	count(tags.deny) == 1 with input as object.union(bucket({}), {"provider": aliased})
}

test_tags_that_are_a_local_of_the_file_are_read if {
	count(tags.deny) == 0 with input as object.union(bucket({"tags": "${local.tags}"}), {"locals": [{"tags": all_of_them}]})
}

test_tags_that_cannot_be_told_are_refused if {
	denied := tags.deny with input as bucket({"tags": "${merge(var.tags, {})}"})
	count(denied) == 1
	some message in denied
	contains(message, "which is not known before Terraform runs")
}

test_an_environment_must_be_known if {
	denied := tags.deny with input as bucket({"tags": object.union(all_of_them, {"environment": "prodution"})})
	count(denied) == 1
	count(tags.deny) == 0 with input as bucket({"tags": object.union(all_of_them, {"environment": "production"})})
	count(tags.deny) == 0 with input as bucket({"tags": object.union(all_of_them, {"environment": "${var.environment}"})})
}

test_google_has_labels if {
	count(tags.deny) == 1 with input as {"resource": {"google_storage_bucket": {"it": [{}]}}}
	count(tags.deny) == 0 with input as {"resource": {"google_storage_bucket": {"it": [{"labels": all_of_them}]}}}
}

deployment(labels) := {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "it", "labels": labels}}

test_a_manifest_needs_its_labels if {
	count(tags.deny) == 0 with input as deployment({"owner": "people", "example.org/model": "churn", "example.org/cost-centre": "4711"})
	denied := tags.deny with input as deployment({"owner": "people"})
	denied == {"Deployment it: its labels lack cost-centre, model. Add them to metadata.labels"}
	count(tags.deny) == 1 with input as {"apiVersion": "v1", "kind": "Job"}
	count(tags.deny) == 0 with input as {"apiVersion": "v1", "kind": "ConfigMap"}
}

test_a_version_may_need_tags if {
	request := {"models": {"churn": {}}, "regions": {}, "release": {"version": "3", "tags": {"Ticket": "A-1"}}}
	count(tags.deny) == 0 with input as request with data.tags as object.union(data.tags, {"version": ["ticket"]})
	denied := tags.deny with input as request with data.tags as object.union(data.tags, {"version": ["reviewer"]})
	denied == {"model churn version 3: its tags lack reviewer. Set them in MLflow"}
}
