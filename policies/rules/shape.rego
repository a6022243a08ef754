# The data that the rules are told: a key that is missing, misspelt or of another kind would leave a rule without effect.
package convoy.shape

import rego.v1

expected := {
	"rights": {"tiers": "object", "default_tier": "string", "grants": "array"},
	"images": {"registries": "array", "exempt": "array", "terraform_attributes": "array", "terraform_not_containers": "array"},
	"residency": {"models": "object", "stores": "array", "places": "object", "store_attributes": "object"},
	"budgets": {"per_day": "object", "forecast_required": "boolean"},
	"encryption": {"terraform": "object", "companions": "object", "storage_classes": "object", "secret_names": "string"},
	"tags": {"required": "array", "terraform": "object", "kubernetes": "array", "version": "array"},
	"environments": {"default": "string", "regions": "object", "namespaces": "object", "known": "object", "mixed": "boolean"},
}

told["rights"] := data.rights

told["images"] := data.images

told["residency"] := data.residency

told["budgets"] := data.budgets

told["encryption"] := data.encryption

told["tags"] := data.tags

told["environments"] := data.environments

deny contains message if {
	some subject in object.keys(expected)
	not is_object(told[subject])
	message := sprintf("data.%v: is no mapping. Give the policy its data, as policies/data/%v.yaml does", [subject, subject])
}

deny contains message if {
	some subject, keys in expected
	is_object(told[subject])
	some key, kind in keys
	found := object.get(told[subject], key, null)
	type_name(found) != kind
	message := sprintf("data.%v.%v: is missing or no %v. Write it as policies/data/%v.yaml does", [subject, key, kind, subject])
}

deny contains message if {
	some subject, keys in expected
	is_object(told[subject])
	some key in object.keys(told[subject]) - object.keys(keys)
	message := sprintf("data.%v.%v: is not known. Correct or remove the key", [subject, key])
}
