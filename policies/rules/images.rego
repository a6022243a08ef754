# Image pins: a tag can be moved, a digest cannot.
package convoy.images

import data.convoy.kinds
import data.convoy.manifest
import data.convoy.names
import data.convoy.terraform
import rego.v1

pinned(image) if regex.match(`@sha256:[0-9a-f]{64}$`, image)

exempt(image) if names.among(data.images.exempt, image)

registry_allowed(_) if count(data.images.registries) == 0

registry_allowed(image) if names.among(data.images.registries, image)

# By type, as a file has many resources of one type
container_types contains type if {
	kinds.terraform
	some type in object.keys(input.resource)
	not names.among(data.images.terraform_not_containers, type)
}

# Kubernetes: every container and image volume, wherever a template is nested.
found contains {"where": where, "image": image} if {
	kinds.kubernetes
	walk(input, [_, value])
	is_object(value)
	some key in ["containers", "initContainers", "ephemeralContainers"]
	containers := value[key]
	is_array(containers)
	some container in containers
	image := container.image
	is_string(image)
	where := sprintf("%v %v, container %v", [input.kind, manifest.name, object.get(container, "name", "without a name")])
}

found contains {"where": where, "image": image} if {
	kinds.kubernetes
	walk(input, [_, value])
	is_object(value)
	volumes := value.volumes
	is_array(volumes)
	some volume in volumes
	image := volume.image.reference
	is_string(image)
	where := sprintf("%v %v, volume %v", [input.kind, manifest.name, object.get(volume, "name", "without a name")])
}

found contains {"where": where, "image": image} if {
	some resource in terraform.resources
	container_types[resource.type]
	walk(resource.body, [path, image])
	is_string(image)
	path[count(path) - 1] in data.images.terraform_attributes
	where := sprintf("%v.%v", [resource.type, resource.name])
}

# Container definitions that are written as an expression, such as jsonencode([{image = "…"}])
found contains {"where": where, "image": image} if {
	some resource in terraform.resources
	container_types[resource.type]
	walk(resource.body, [_, text])
	is_string(text)
	contains(text, "image")
	some pair in regex.find_all_string_submatch_n(`"?\bimage"?\s*[=:]\s*"([^"]*)"`, text, -1)
	image := pair[1]
	where := sprintf("%v.%v", [resource.type, resource.name])
}

deny contains message if {
	some each in found
	not pinned(each.image)
	not exempt(each.image)
	message := sprintf(
		"%v: its image %v is not pinned by its digest, so what runs can change behind its name. Write NAME@sha256:DIGEST",
		[each.where, each.image],
	)
}

deny contains message if {
	some each in found
	not registry_allowed(each.image)
	not exempt(each.image)
	message := sprintf(
		"%v: its image %v comes from none of the registries %v. Copy it there, or allow its registry in data.images.registries",
		[each.where, each.image, names.listed(data.images.registries)],
	)
}
