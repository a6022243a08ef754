# Release rights: who may release which model, of which tier, into which environment.
package convoy.rights

import data.convoy.environments
import data.convoy.kinds
import data.convoy.names
import rego.v1

tier(model) := found if {
	some found
	names.among(data.rights.tiers[found], model)
} else := data.rights.default_tier

granted(who, model, environment) if {
	some grant in data.rights.grants
	names.among(grant.who, who)
	names.among(grant.models, model)
	names.among(grant.tiers, tier(model))
	names.among(grant.environments, environment)
}

deny contains message if {
	kinds.release
	who := object.get(input.release, "actor", "")
	some model, declared in input.models
	some region in declared.regions
	environment := environments.of(region)
	not granted(who, model, environment)
	message := sprintf(
		"models.%v: '%v' may not release it (tier %v) into %v (region %v). Let somebody release it whom data.rights.grants names, or grant it there",
		[model, who, tier(model), environment, region],
	)
}
