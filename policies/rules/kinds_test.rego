package convoy.kinds_test

import data.convoy.kinds
import rego.v1

test_a_fleet_is_told_by_its_models_and_regions if {
	kinds.fleet with input as {"models": {}, "regions": {}}
	not kinds.release with input as {"models": {}, "regions": {}}
	kinds.release with input as {"models": {}, "regions": {}, "release": {}}
}

test_a_manifest_is_told_by_its_version_and_kind if {
	kinds.kubernetes with input as {"apiVersion": "v1", "kind": "Pod"}
}

test_terraform_is_told_by_its_blocks if {
	kinds.terraform with input as {"resource": {}, "variable": {}}
	not kinds.terraform with input as {"resource": {}, "models": {}}
	not kinds.terraform with input as []
}

test_anything_else_is_refused if {
	kinds.deny["the document: is neither a fleet, nor a Kubernetes manifest, nor Terraform. Check one of these"] with input as {"services": {}}
	count(kinds.deny) == 1 with input as "text"
	count(kinds.deny) == 0 with input as {"models": {}, "regions": {}}
}

config := {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}}

test_a_list_of_manifests_is_refused_by_whatever_kind_it_calls_itself if {
	denied := kinds.deny with input as {"apiVersion": "v1", "kind": "List", "items": [config]}
	denied == {"List without a name: holds several manifests in its items, which are judged one by one. Write them as documents of their own, between lines of ---"}
	count(kinds.deny) == 1 with input as {"apiVersion": "v1", "kind": "SecretList", "items": [config]}
	count(kinds.deny) == 1 with input as {"apiVersion": "v1", "kind": "ConfigMap", "items": [config]}
	count(kinds.deny) == 1 with input as {"apiVersion": "v1", "kind": "List", "Items": {"a": config}}
	count(kinds.deny) == 1 with input as {"apiVersion": "v1", "kind": "List", "items": null}
}

test_what_has_items_further_inside_is_no_list if {
	volume := {"name": "v", "configMap": {"name": "it", "items": [{"key": "a", "path": "b"}]}}
	count(kinds.deny) == 0 with input as {"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [volume]}}
	count(kinds.deny) == 0 with input as {"apiVersion": "example.org/v1", "kind": "AllowList"}
	count(kinds.deny) == 0 with input as {"models": {}, "regions": {}, "items": []}
}
