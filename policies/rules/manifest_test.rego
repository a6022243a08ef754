package convoy.manifest_test

import data.convoy.manifest
import rego.v1

test_what_is_there_is_read if {
	manifest.name == "it" with input as {"metadata": {"name": "it"}}
	manifest.labels == {"owner": "us"} with input as {"metadata": {"labels": {"owner": "us"}}}
	manifest.spec == {"a": 1} with input as {"spec": {"a": 1}}
}

test_what_is_missing_or_null_is_empty if {
	manifest.name == "without a name" with input as {"metadata": null}
	manifest.labels == {} with input as {"metadata": {"labels": null}}
	manifest.spec == {} with input as {"spec": null}
}
