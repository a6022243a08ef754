package convoy.terraform_test

import data.convoy.terraform
import rego.v1

test_values_are_found_through_blocks_and_dynamic_blocks if {
	terraform.at({"disk": [{"encrypted": true}, {"encrypted": false}]}, ["disk", "encrypted"]) == [true, false]
	terraform.at({"dynamic": {"disk": [{"content": [{"encrypted": false}]}]}}, ["disk", "encrypted"]) == [false]
	terraform.at({"disk": []}, ["disk", "encrypted"]) == []
}

test_an_expression_is_not_resolved if {
	terraform.unresolved("a-${var.b}")
	not terraform.unresolved("a")
	not terraform.unresolved(true)
}

test_a_mapping_is_one_that_the_file_says if {
	terraform.mapping({"a": 1}) == {"a": 1}
	terraform.mapping("${local.tags}") == {"owner": "us"} with input as {"locals": [{"tags": {"owner": "us"}}]}
	not terraform.mapping("${local.tags}") with input as {"locals": [{"tags": "${var.tags}"}]}
	not terraform.mapping("${var.tags}")
}
