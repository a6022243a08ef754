package convoy.environments_test

import data.convoy.environments
import rego.v1

rules := {
	"default": "staging",
	"regions": {"prod-*": "production", "prod-lab": "staging"},
	"namespaces": {"serving": "production"},
	"mixed": false,
	"known": {
		"production": {"targets": ["kubernetes"], "providers": ["aws"]},
		"staging": {"targets": ["*"], "providers": ["*"]},
	},
}

fleet(regions) := {
	"regions": regions,
	"models": {"churn": {"regions": [name | some name in object.keys(regions)]}},
}

place(target, provider) := {"target": target, "provider": provider}

test_a_region_belongs_where_it_is_named_else_by_its_beginning_else_to_the_default if {
	environments.of("prod-lab") == "staging" with data.environments as rules
	environments.of("prod-eu") == "production" with data.environments as rules
	environments.of("eu") == "staging" with data.environments as rules
}

test_a_region_where_it_belongs_passes if {
	count(environments.deny) == 0 with input as fleet({"prod-eu": place("kubernetes", "aws")}) with data.environments as rules
}

test_a_target_that_its_environment_does_not_have_is_refused if {
	denied := environments.deny with input as fleet({"prod-eu": place("local", "aws")}) with data.environments as rules
	denied == {"regions.prod-eu: its target local has no place in production (kubernetes). Move the region to another environment, or allow it there"}
}

test_a_provider_that_its_environment_does_not_have_is_refused if {
	count(environments.deny) == 1 with input as fleet({"prod-eu": place("kubernetes", "gcp")}) with data.environments as rules
}

test_a_region_of_two_environments_or_of_an_unknown_one_is_refused if {
	twice := object.union(rules, {"regions": {"prod-*": "production", "prod-e*": "staging"}})
	some message in environments.deny with input as fleet({"prod-eu": place("kubernetes", "aws")}) with data.environments as twice
	startswith(message, "regions.prod-eu: belongs to several environments, which is no known environment (production, staging).")
	unknown := object.union(rules, {"default": "nowhere"})
	count(environments.deny) > 0 with input as fleet({"eu": place("kubernetes", "aws")}) with data.environments as unknown
}

test_a_model_over_two_environments_is_refused_unless_that_is_allowed if {
	both := fleet({"prod-eu": place("kubernetes", "aws"), "eu": place("local", "local")})
	denied := environments.deny with input as both with data.environments as rules
	denied == {"models.churn: its regions belong to production, staging at once. Declare one model for each environment, so that a release reaches one after the other"}
	count(environments.deny) == 0 with input as both with data.environments as object.union(rules, {"mixed": true})
}

test_a_region_that_nothing_is_known_of_is_refused if {
	lost := {"regions": {}, "models": {"churn": {"regions": ["eu"]}}}
	denied := environments.deny with input as lost with data.environments as rules
	denied == {"models.churn: its region eu is not declared, so nothing is known of it. Declare it in regions"}
}

test_a_manifest_must_not_contradict_its_namespace if {
	manifest := {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "serving", "labels": {"environment": "staging"}}}
	denied := environments.deny with input as manifest with data.environments as rules
	denied == {"Pod p: is labelled environment=staging, but its namespace serving belongs to production. Correct the label or the namespace"}
	elsewhere := object.union(manifest, {"metadata": {"namespace": "lab"}})
	count(environments.deny) == 0 with input as elsewhere with data.environments as rules
}
