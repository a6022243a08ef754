# Terraform as Conftest's hcl2 parser gives it: resource.TYPE.NAME is a list of bodies, a block is a list, what is not
# literal is "${…}".
package convoy.terraform

import data.convoy.kinds
import rego.v1

resources contains {"type": type, "name": name, "body": body} if {
	kinds.terraform
	some type, named in input.resource
	some name, bodies in named
	some body in bodies
}

# Everything at a path of keys, through lists of blocks and through dynamic blocks.
at(body, path) := [value |
	walk(body, [steps, value])
	not is_array(value)
	keys := [step | some step in steps; is_string(step)]
	keys in {path, dynamic(path)}
]

dynamic(path) := array.concat(["dynamic", path[0], "content"], array.slice(path, 1, count(path)))

unresolved(value) if {
	is_string(value)
	contains(value, "${")
}

# A mapping that a file says itself: written there, or one of its locals.
mapping(value) := value if is_object(value)

mapping(value) := found if {
	is_string(value)
	startswith(value, "${local.")
	name := trim_suffix(trim_prefix(value, "${local."), "}")
	some each in input.locals
	found := each[name]
	is_object(found)
}
