# A Kubernetes manifest's name and labels, also where they are missing or null.
package convoy.manifest

import rego.v1

metadata := input.metadata if {
	is_object(input.metadata)
} else := {}

labels := metadata.labels if {
	is_object(metadata.labels)
} else := {}

spec := input.spec if {
	is_object(input.spec)
} else := {}

name := metadata.name if {
	is_string(metadata.name)
} else := "without a name"
