# Residency: in which jurisdictions a model may stand, and where what it stores may lie.
package convoy.residency

import data.convoy.kinds
import data.convoy.names
import data.convoy.terraform
import rego.v1

deny contains message if {
	kinds.fleet
	some model, declared in input.models
	some pattern, allowed in data.residency.models
	names.matches(pattern, model)
	some region in declared.regions
	jurisdiction := input.regions[region].jurisdiction
	not names.among(allowed, jurisdiction)
	message := sprintf(
		"models.%v: its region %v lies in %v, and it may stand in %v only. Take the region out of models.%v.regions",
		[model, region, jurisdiction, names.listed(allowed), model],
	)
}

# Every request carries a mark, and no mark allows the region: the model and its rows would lie there for nobody.
deny contains message if {
	kinds.fleet
	some model, declared in input.models
	residency := declared.traffic.residency
	is_string(residency.unmarked)
	allowed := {jurisdiction | some jurisdictions in residency.marks; some jurisdiction in jurisdictions}
	some region in declared.regions
	jurisdiction := input.regions[region].jurisdiction
	not jurisdiction in allowed
	message := sprintf(
		"models.%v: its region %v lies in %v, where none of its residency marks lets a request be answered (%v). Take the region out, or add a mark",
		[model, region, jurisdiction, names.listed(allowed)],
	)
}

deny contains message if {
	kinds.fleet
	some region, declared in input.regions
	known := data.residency.places[declared.provider][declared.place]
	known != declared.jurisdiction
	message := sprintf(
		"regions.%v: %v's place %v lies in %v, and the region says %v. Correct its jurisdiction",
		[region, declared.provider, declared.place, known, declared.jurisdiction],
	)
}

anywhere if "*" in data.residency.stores

# Stores in Terraform: their own place, else that of their provider.
stores contains {"where": where, "provider": provider, "place": place} if {
	some resource in terraform.resources
	kind := data.residency.store_attributes[resource.type]
	provider := kind.provider
	where := sprintf("%v.%v", [resource.type, resource.name])
	place := place_of(resource.body, kind)
}

place_of(body, kind) := body[kind.attribute] if {
	is_string(body[kind.attribute])
} else := place if {
	providers := [each | some each in object.get(object.get(input, "provider", {}), kind.block, []); not each.alias]
	not body.provider
	place := providers[0].region
	is_string(place)
} else := ""

deny contains message if {
	not anywhere
	some store in stores
	not data.residency.places[store.provider][lower(store.place)]
	message := sprintf(
		"%v: it cannot be told where it lies (%v place '%v'). Write its place out, and name it in data.residency.places",
		[store.where, store.provider, store.place],
	)
}

deny contains message if {
	not anywhere
	some store in stores
	jurisdiction := data.residency.places[store.provider][lower(store.place)]
	not names.among(data.residency.stores, jurisdiction)
	message := sprintf(
		"%v: it lies in %v (%v), and stores may lie in %v only. Move it",
		[store.where, store.place, jurisdiction, names.listed(data.residency.stores)],
	)
}
