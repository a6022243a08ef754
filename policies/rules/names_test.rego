package convoy.names_test

import data.convoy.names
import rego.v1

test_a_star_stands_for_the_rest_of_a_name if {
	names.matches("fraud*", "fraud-eu")
	names.matches("*", "")
	names.matches("fraud", "fraud")
}

test_a_name_without_a_star_is_that_name if {
	not names.matches("fraud", "fraud-eu")
	not names.matches("", "fraud")
	not names.among([], "fraud")
}

test_names_are_listed_in_order if names.listed({"b", "a", 3}) == "3, a, b"
