# Tags and labels: by them a bill, an alert and a person find what belongs together.
package convoy.tags

import data.convoy.kinds
import data.convoy.manifest
import data.convoy.names
import data.convoy.terraform
import rego.v1

# owner, Owner, cost_centre and example.org/cost-centre are one name each
plain(key) := replace(lower(last(split(key, "/"))), "_", "-")

last(parts) := parts[count(parts) - 1]

keys(mapping) := {plain(key) | some key, value in mapping; not value in {null, ""}}

# By type, as a file has many resources of one type
attributes[type] contains attribute if {
	kinds.terraform
	some type in object.keys(input.resource)
	some attribute, types in data.tags.terraform
	names.among(types, type)
}

taggable contains {"resource": resource, "attribute": attribute} if {
	some resource in terraform.resources
	some attribute in attributes[resource.type]
}

default_keys contains key if {
	some provider in input.provider.aws
	not provider.alias
	some mapping in terraform.at(provider, ["default_tags", "tags"])
	is_object(mapping)
	some key in keys(mapping)
}

from_provider(resource) := default_keys if {
	startswith(resource.type, "aws_")
	not resource.body.provider
} else := set()

deny contains message if some message in kinds.several

deny contains message if {
	some each in taggable
	value := object.get(each.resource.body, each.attribute, {})
	mapping := terraform.mapping(value)
	missing := {key | some key in data.tags.required} - (keys(mapping) | from_provider(each.resource))
	count(missing) > 0
	message := sprintf(
		"%v.%v: its %v lack %v. Add them",
		[each.resource.type, each.resource.name, each.attribute, names.listed(missing)],
	)
}

deny contains message if {
	count(data.tags.required) > 0
	some each in taggable
	value := object.get(each.resource.body, each.attribute, {})
	not terraform.mapping(value)
	message := sprintf(
		"%v.%v: its %v are %v, which is not known before Terraform runs. Write the required ones out, or as a local of the file",
		[each.resource.type, each.resource.name, each.attribute, value],
	)
}

deny contains message if {
	some each in taggable
	mapping := terraform.mapping(object.get(each.resource.body, each.attribute, {}))
	some key, value in mapping
	plain(key) == "environment"
	not terraform.unresolved(value)
	not data.environments.known[value]
	message := sprintf(
		"%v.%v: its environment %v is not known (%v). Correct it, or declare it in data.environments.known",
		[each.resource.type, each.resource.name, value, names.listed(object.keys(data.environments.known))],
	)
}

deny contains message if {
	kinds.kubernetes
	input.kind in data.tags.kubernetes
	missing := {key | some key in data.tags.required} - keys(manifest.labels)
	count(missing) > 0
	message := sprintf("%v %v: its labels lack %v. Add them to metadata.labels", [input.kind, manifest.name, names.listed(missing)])
}

deny contains message if {
	kinds.release
	some model in object.keys(input.models)
	missing := {key | some key in data.tags.version} - keys(object.get(input.release, "tags", {}))
	count(missing) > 0
	message := sprintf(
		"model %v version %v: its tags lack %v. Set them in MLflow",
		[model, object.get(input.release, "version", "?"), names.listed(missing)],
	)
}
