# Names in the data: one name, or a beginning that ends in *.
package convoy.names

import rego.v1

matches(pattern, name) if pattern == name

matches(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}

among(patterns, name) if {
	some pattern in patterns
	matches(pattern, name)
}

listed(values) := concat(", ", sort([sprintf("%v", [value]) | some value in values]))
