# Which kind of document is judged, told by its own keys: the document is what the file says and nothing around it.
package convoy.kinds

import data.convoy.manifest
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

# kubectl takes any manifest with items for a list of manifests, whatever its kind; each rule is about one manifest.
several contains message if {
	kubernetes
	some key in object.keys(input)
	lower(key) == "items"
	message := sprintf(
		"%v %v: holds several manifests in its items, which are judged one by one. Write them as documents of their own, between lines of ---",
		[input.kind, manifest.name],
	)
}

deny contains message if some message in several

deny contains message if {
	not fleet
	not kubernetes
	not terraform
	message := "the document: is neither a fleet, nor a Kubernetes manifest, nor Terraform. Check one of these"
}
