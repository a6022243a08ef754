# Environments: each region belongs to one, each has its targets and providers, and a model's regions share one.
package convoy.environments

import data.convoy.kinds
import data.convoy.manifest
import data.convoy.names
import rego.v1

named(region) := {environment |
	some pattern, environment in data.environments.regions
	names.matches(pattern, region)
}

exact(region) if data.environments.regions[region]

of(region) := data.environments.regions[region] if {
	exact(region)
} else := found if {
	count(named(region)) == 1
	some found in named(region)
} else := data.environments["default"] if {
	count(named(region)) == 0
} else := "several environments"

deny contains message if some message in kinds.several

deny contains message if {
	kinds.fleet
	some region in object.keys(input.regions)
	environment := of(region)
	not data.environments.known[environment]
	message := sprintf(
		"regions.%v: belongs to %v, which is no known environment (%v). Name it in data.environments.regions, or declare the environment",
		[region, environment, names.listed(object.keys(data.environments.known))],
	)
}

deny contains message if {
	kinds.fleet
	some region, declared in input.regions
	environment := of(region)
	some key, property in {"targets": "target", "providers": "provider"}
	allowed := data.environments.known[environment][key]
	found := object.get(declared, property, "")
	not names.among(allowed, found)
	message := sprintf(
		"regions.%v: its %v %v has no place in %v (%v). Move the region to another environment, or allow it there",
		[region, property, found, environment, names.listed(allowed)],
	)
}

deny contains message if {
	kinds.fleet
	not data.environments.mixed
	some model, declared in input.models
	environments := {of(region) | some region in declared.regions}
	count(environments) > 1
	message := sprintf(
		"models.%v: its regions belong to %v at once. Declare one model for each environment, so that a release reaches one after the other",
		[model, names.listed(environments)],
	)
}

deny contains message if {
	kinds.fleet
	some model, declared in input.models
	some region in declared.regions
	not input.regions[region]
	message := sprintf("models.%v: its region %v is not declared, so nothing is known of it. Declare it in regions", [model, region])
}

deny contains message if {
	kinds.kubernetes
	namespace := object.get(manifest.metadata, "namespace", "default")
	belongs := data.environments.namespaces[namespace]
	labelled := manifest.labels.environment
	labelled != belongs
	message := sprintf(
		"%v %v: is labelled environment=%v, but its namespace %v belongs to %v. Correct the label or the namespace",
		[input.kind, manifest.name, labelled, namespace, belongs],
	)
}
