# Budgets: what a day is expected to cost, held against what it may cost. Amounts are texts; they are compared in whole
# millionths, each rounded up, because a binary number holds no price exactly.
package convoy.budgets

import data.convoy.kinds
import rego.v1

micros(amount) := (to_number(parts[0]) * 1000000) + rest if {
	is_string(amount)
	regex.match(`^(0|[1-9][0-9]{0,7})(\.[0-9]+)?$`, amount)
	parts := split(concat("", [amount, point(amount), "000000"]), ".")
	rest := (to_number(concat("", ["1", substring(parts[1], 0, 6)])) - 1000000) + rounded(parts[1])
}

point(amount) := "" if {
	contains(amount, ".")
} else := "."

rounded(decimals) := 1 if {
	regex.match(`[1-9]`, substring(decimals, 6, -1))
} else := 0

currency_of(region) := input.regions[region].prices.currency if {
	is_string(input.regions[region].prices.currency)
} else := "no currency"

amounts contains {"model": model, "region": region, "currency": currency, "text": text} if {
	kinds.fleet
	some model, declared in input.models
	some region, forecast in declared.forecast
	text := forecast.per_day
	currency := currency_of(region)
}

limited contains {"subject": subject, "currency": currency, "spent": spent, "limit": limit} if {
	some each in amounts
	currency := each.currency
	limit := data.budgets.per_day[currency].region
	spent := sum([micros(other.text) | some other in amounts; other.region == each.region; other.currency == currency])
	subject := sprintf("regions.%v", [each.region])
}

limited contains {"subject": subject, "currency": currency, "spent": spent, "limit": limit} if {
	some each in amounts
	currency := each.currency
	limit := data.budgets.per_day[currency].model
	spent := sum([micros(other.text) | some other in amounts; other.model == each.model; other.currency == currency])
	subject := sprintf("models.%v", [each.model])
}

limited contains {"subject": "the fleet", "currency": currency, "spent": spent, "limit": limit} if {
	some currency in {each.currency | some each in amounts}
	limit := data.budgets.per_day[currency].fleet
	spent := sum([micros(other.text) | some other in amounts; other.currency == currency])
}

deny contains message if {
	some each in limited
	each.spent > micros(each.limit)
	message := sprintf(
		"%v: is expected to cost %v millionths of a %v a day, more than its budget of %v. Take regions out, or have the budget raised in data.budgets",
		[each.subject, each.spent, each.currency, each.limit],
	)
}

deny contains message if {
	some each in amounts
	not micros(each.text)
	message := sprintf(
		"models.%v.forecast.%v: %v is no amount. Write it in quotes, with at most eight digits before the point",
		[each.model, each.region, each.text],
	)
}

deny contains message if {
	some currency, limits in data.budgets.per_day
	some name in ["region", "model", "fleet"]
	not micros(object.get(limits, name, null))
	message := sprintf("data.budgets.per_day.%v.%v: is no amount. Write it in quotes, such as \"1000\"", [currency, name])
}

deny contains message if {
	kinds.fleet
	data.budgets.forecast_required
	some model, declared in input.models
	some region in declared.regions
	not declared.forecast[region]
	message := sprintf("models.%v: has no forecast for %v, so no budget can hold it. Declare models.%v.forecast.%v", [model, region, model, region])
}

warn contains message if {
	some each in amounts
	not data.budgets.per_day[each.currency]
	message := sprintf("models.%v: its forecast for %v is in %v, for which there is no budget", [each.model, each.region, each.currency])
}
