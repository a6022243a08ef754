package convoy.budgets_test

import data.convoy.budgets
import rego.v1

rules := {"per_day": {"USD": {"region": "10", "model": "15", "fleet": "20"}}, "forecast_required": false}

prices(currency) := {"prices": {"currency": currency}}

fleet(costs) := {
	"regions": {"us": prices("USD"), "eu": prices("USD"), "gb": prices("GBP")},
	"models": {model: {"regions": object.keys(regions), "forecast": {region: {"per_day": cost} | some region, cost in regions}} |
		some model, regions in costs
	},
}

test_amounts_are_counted_in_millionths_rounded_up if {
	budgets.micros("1") == 1000000
	budgets.micros("0.09") == 90000
	budgets.micros("12345678.123456") == 12345678123456
	budgets.micros("0.0000001") == 1
	budgets.micros("0.1000000") == 100000
	not budgets.micros("1e3")
	not budgets.micros(1)
	not budgets.micros("-1")
	not budgets.micros("")
}

test_what_is_within_its_budgets_passes if {
	count(budgets.deny) == 0 with input as fleet({"a": {"us": "10", "eu": "5"}, "b": {"eu": "5"}}) with data.budgets as rules
}

test_a_region_above_its_budget_is_refused_over_all_models if {
	denied := budgets.deny with input as fleet({"a": {"us": "6"}, "b": {"us": "4.000001"}}) with data.budgets as rules
	denied == {"regions.us: is expected to cost 10000001 millionths of a USD a day, more than its budget of 10. Take regions out, or have the budget raised in data.budgets"}
}

test_a_model_above_its_budget_is_refused if {
	denied := budgets.deny with input as fleet({"a": {"us": "8", "eu": "8"}}) with data.budgets as rules
	count(denied) == 1
	some message in denied
	startswith(message, "models.a: is expected to cost 16000000 millionths")
}

test_a_fleet_above_its_budget_is_refused if {
	denied := budgets.deny with input as fleet({"a": {"us": "9"}, "b": {"eu": "9"}, "c": {"us": "1", "eu": "1.5"}}) with data.budgets as rules
	some message in denied
	startswith(message, "the fleet: is expected to cost 20500000 millionths")
}

test_a_currency_without_a_budget_is_told if {
	told := budgets.warn with input as fleet({"a": {"gb": "1000000"}}) with data.budgets as rules
	told == {"models.a: its forecast for gb is in GBP, for which there is no budget"}
}

test_an_amount_that_is_none_is_refused_and_so_is_a_budget if {
	count(budgets.deny) == 1 with input as fleet({"a": {"us": "much"}}) with data.budgets as rules
	broken := {"per_day": {"USD": {"region": "10", "model": 15}}, "forecast_required": false}
	count(budgets.deny) == 2 with input as {} with data.budgets as broken
}

test_a_forecast_may_be_required if {
	required := object.union(rules, {"forecast_required": true})
	bare := {"regions": {"us": prices("USD")}, "models": {"a": {"regions": ["us"]}}}
	denied := budgets.deny with input as bare with data.budgets as required
	denied == {"models.a: has no forecast for us, so no budget can hold it. Declare models.a.forecast.us"}
	count(budgets.deny) == 0 with input as bare with data.budgets as rules
}
