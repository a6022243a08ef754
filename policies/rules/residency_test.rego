package convoy.residency_test

import data.convoy.residency
import rego.v1

fleet := {
	"regions": {
		"eu": {"provider": "gcp", "place": "europe-west4", "jurisdiction": "NL"},
		"us": {"provider": "aws", "place": "N. Virginia", "jurisdiction": "US"},
	},
	"models": {"churn": {"regions": ["eu", "us"]}},
}

marked(residency) := object.union(fleet, {"models": {"churn": {"traffic": {"residency": residency}}}})

test_without_a_rule_a_model_may_stand_anywhere if count(residency.deny) == 0 with input as fleet

test_a_region_outside_of_a_models_jurisdictions_is_refused if {
	rules := object.union(data.residency, {"models": {"chu*": ["NL", "DE"]}})
	denied := residency.deny with input as fleet with data.residency as rules
	denied == {"models.churn: its region us lies in US, and it may stand in DE, NL only. Take the region out of models.churn.regions"}
	count(residency.deny) == 0 with input as fleet with data.residency as object.union(data.residency, {"models": {"other": ["NL"]}})
}

test_a_region_that_no_mark_allows_is_refused_where_every_request_has_one if {
	denied := residency.deny with input as marked({"marks": {"eu": ["NL"]}, "unmarked": "eu"})
	count(denied) == 1
	some message in denied
	contains(message, "models.churn: its region us lies in US, where none of its residency marks lets a request be answered (NL)")
	count(residency.deny) == 0 with input as marked({"marks": {"eu": ["NL"]}})
	count(residency.deny) == 0 with input as marked({"marks": {"eu": ["NL"], "us": ["US"]}, "unmarked": "eu"})
}

test_a_place_in_another_jurisdiction_than_its_region_says_is_refused if {
	wrong := object.union(fleet, {"regions": {"eu": {"jurisdiction": "DE"}}})
	denied := residency.deny with input as wrong
	denied == {"regions.eu: gcp's place europe-west4 lies in NL, and the region says DE. Correct its jurisdiction"}
}

european := object.union(data.residency, {"stores": ["NL", "IE", "EU"]})

bucket(body) := {"resource": {"google_storage_bucket": {"it": [body]}}}

test_stores_may_lie_anywhere_by_default if count(residency.deny) == 0 with input as bucket({"location": "US"})

test_a_store_outside_of_the_jurisdictions_is_refused if {
	denied := residency.deny with input as bucket({"location": "US"}) with data.residency as european
	denied == {"google_storage_bucket.it: it lies in US (US), and stores may lie in EU, IE, NL only. Move it"}
	count(residency.deny) == 0 with input as bucket({"location": "EUROPE-WEST4"}) with data.residency as european
}

test_a_store_of_which_it_cannot_be_told_is_refused if {
	denied := residency.deny with input as bucket({"location": "${var.place}"}) with data.residency as european
	count(denied) == 1
	count(residency.deny) == 1 with input as bucket({}) with data.residency as european
	count(residency.deny) == 1 with input as {"resource": {"aws_s3_bucket": {"it": [{}]}}} with data.residency as european
}

test_a_store_lies_where_its_provider_does if {
	resource := {"aws_s3_bucket": {"it": [{}]}}
	irish := {"resource": resource, "provider": {"aws": [{"region": "eu-west-1"}, {"alias": "us", "region": "us-east-1"}]}}
	count(residency.deny) == 0 with input as irish with data.residency as european
	aliased := {"resource": {"aws_s3_bucket": {"it": [{"provider": "${aws.us}"}]}}, "provider": irish.provider}
	count(residency.deny) == 1 with input as aliased with data.residency as european
}
