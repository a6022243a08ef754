package convoy.shape_test

import data.convoy.shape
import rego.v1

budgets := {"per_day": {}, "forecast_required": false}

test_the_shipped_data_fits if count(shape.deny) == 0

test_a_key_that_is_missing_is_named if {
	shape.deny["data.budgets.forecast_required: is missing or no boolean. Write it as policies/data/budgets.yaml does"] with data.budgets as {"per_day": {}}
}

test_a_key_that_is_misspelt_is_named if {
	shape.deny["data.budgets.perday: is not known. Correct or remove the key"] with data.budgets as object.union(budgets, {"perday": {}})
}

test_a_value_of_another_kind_is_named if {
	shape.deny["data.budgets.per_day: is missing or no object. Write it as policies/data/budgets.yaml does"] with data.budgets as object.union(budgets, {"per_day": []})
}

test_a_subject_that_is_no_mapping_is_named if {
	shape.deny["data.rights: is no mapping. Give the policy its data, as policies/data/rights.yaml does"] with data.rights as []
}
