package convoy.rights_test

import data.convoy.rights
import rego.v1

rules := {
	"tiers": {"critical": ["fraud*"]},
	"default_tier": "standard",
	"grants": [
		{"who": ["release-team"], "models": ["*"], "tiers": ["*"], "environments": ["*"]},
		{"who": ["*"], "models": ["*"], "tiers": ["standard"], "environments": ["staging"]},
	],
}

places := {"default": "staging", "regions": {"prod-*": "production"}, "namespaces": {}, "known": {}, "mixed": false}

asked(who, model, region) := {
	"models": {model: {"regions": [region]}},
	"regions": {region: {}},
	"release": {"actor": who},
}

test_who_is_granted_may_release if {
	count(rights.deny) == 0 with input as asked("release-team", "fraud-eu", "prod-eu") with data.rights as rules with data.environments as places
	count(rights.deny) == 0 with input as asked("anybody", "churn", "eu") with data.rights as rules with data.environments as places
}

test_a_tier_that_is_not_granted_is_refused_with_who_what_where_and_remedy if {
	denied := rights.deny with input as asked("anybody", "fraud-eu", "eu") with data.rights as rules with data.environments as places
	denied == {"models.fraud-eu: 'anybody' may not release it (tier critical) into staging (region eu). Let somebody release it whom data.rights.grants names, or grant it there"}
}

test_an_environment_that_is_not_granted_is_refused if {
	count(rights.deny) == 1 with input as asked("anybody", "churn", "prod-eu") with data.rights as rules with data.environments as places
}

test_nobody_is_granted_nothing if {
	request := asked("", "churn", "prod-eu")
	count(rights.deny) == 1 with input as request with data.rights as rules with data.environments as places
	count(rights.deny) == 1 with input as object.union(request, {"release": {}}) with data.rights as rules with data.environments as places
}

test_a_grant_that_lacks_a_part_grants_nothing if {
	broken := object.union(rules, {"grants": [{"who": ["*"], "models": ["*"]}]})
	count(rights.deny) == 1 with input as asked("release-team", "churn", "eu") with data.rights as broken with data.environments as places
}

test_a_fleet_is_released_by_nobody_so_no_right_is_asked_for if {
	count(rights.deny) == 0 with input as {"models": {"churn": {"regions": ["eu"]}}, "regions": {"eu": {}}} with data.rights as rules
}
