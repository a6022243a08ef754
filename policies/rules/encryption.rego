# Encryption: what stores, and what is reached, in Terraform as the data lists it; secrets and ways in, in Kubernetes.
package convoy.encryption

import data.convoy.kinds
import data.convoy.manifest
import data.convoy.names
import data.convoy.terraform
import rego.v1

kept("present", values) if {
	some value in values
	not value in {null, "", false}
}

kept(true, values) if {
	count(values) > 0
	every value in values { value == true }
}

kept("not false", values) if {
	every value in values { value in {true, null} }
}

kept(allowed, values) if {
	is_array(allowed)
	count(values) > 0
	every value in values { value in allowed }
}

wanted(condition) := sprintf("one of %v", [names.listed(condition)]) if {
	is_array(condition)
} else := "given" if {
	condition == "present"
} else := sprintf("%v", [condition])

said(values) := "is missing" if {
	count(values) == 0
} else := sprintf("is %v, which is not known before Terraform runs", [values[0]]) if {
	terraform.unresolved(values[0])
} else := sprintf("is %v", [names.listed(values)])

deny contains message if {
	some resource in terraform.resources
	some attribute, condition in data.encryption.terraform[resource.type]
	values := terraform.at(resource.body, split(attribute, "."))
	not kept(condition, values)
	message := sprintf(
		"%v.%v: %v %v, so it is not surely encrypted. It must be %v",
		[resource.type, resource.name, attribute, said(values), wanted(condition)],
	)
}

deny contains message if {
	some resource in terraform.resources
	companion := data.encryption.companions[resource.type]
	count(terraform.at(resource.body, [companion.inline])) == 0
	not accompanied(resource, companion)
	message := sprintf(
		"%v.%v: nothing in this file encrypts it. Add a %v for it to the file",
		[resource.type, resource.name, companion.type],
	)
}

accompanied(resource, companion) if {
	some other in terraform.resources
	other.type == companion.type
	refers(other.body[companion.attribute], resource, companion)
}

refers(value, resource, _) if {
	is_string(value)
	regex.match(sprintf(`^\$\{%v\.%v(\[[^\]]*\])?\.[a-z_]+\}$`, [resource.type, resource.name]), value)
}

refers(value, resource, companion) if {
	is_string(value)
	not terraform.unresolved(value)
	value == resource.body[companion.attribute]
}

# Kubernetes
deny contains message if some message in kinds.several

deny contains message if {
	kinds.kubernetes
	input.kind == "Secret"
	some key in ["data", "stringData"]
	is_object(input[key])
	count(input[key]) > 0
	message := sprintf(
		"Secret %v: carries its values, and base64 hides nothing from who reads the file. Let an operator fetch them (ExternalSecret, SealedSecret)",
		[manifest.name],
	)
}

deny contains message if {
	kinds.kubernetes
	walk(input, [_, value])
	is_object(value)
	is_array(value.env)
	some variable in value.env
	is_string(variable.name)
	is_string(variable.value)
	variable.value != ""
	regex.match(data.encryption.secret_names, variable.name)
	message := sprintf(
		"%v %v: its variable %v holds a secret as plain text. Take it from a Secret with valueFrom.secretKeyRef",
		[input.kind, manifest.name, variable.name],
	)
}

deny contains message if {
	kinds.kubernetes
	input.kind == "Ingress"
	not encrypted
	message := sprintf("Ingress %v: has no tls, so what passes it can be read on the way. Add spec.tls", [manifest.name])
}

encrypted if {
	is_array(manifest.spec.tls)
	count(manifest.spec.tls) > 0
}

deny contains message if {
	kinds.kubernetes
	input.kind == "StorageClass"
	some parameter, value in data.encryption.storage_classes[input.provisioner]
	not input.parameters[parameter] == value
	message := sprintf("StorageClass %v: its volumes are not encrypted. Set parameters.%v: \"%v\"", [manifest.name, parameter, value])
}

deny contains message if {
	kinds.kubernetes
	input.kind == "EncryptionConfiguration"
	some resource in input.resources
	resource.providers[0].identity
	message := sprintf("EncryptionConfiguration of %v: its first provider is identity, which encrypts nothing. Put a cipher first", [names.listed(resource.resources)])
}
