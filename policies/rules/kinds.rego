# Which kind of document is judged, told by its own keys: the document is what the file says and nothing around it.
package convoy.kinds

import rego.v1

blocks := {"check", "data", "import", "locals", "module", "moved", "output", "provider", "removed", "resource", "terraform", "variable"}

fleet if {
	is_object(input.models)
	is_object(input.regions)
}

release if {
	fleet
	is_object(input.release)
}

kubernetes if {
	is_string(input.apiVersion)
	is_string(input.kind)
}

terraform if {
	not fleet
	not kubernetes
	is_object(input)
	count(object.keys(input) - blocks) == 0
}

deny contains message if {
	not fleet
	not kubernetes
	not terraform
	message := "the document: is neither a fleet, nor a Kubernetes manifest, nor Terraform. Check one of these"
}
