package main_test

import data.convoy.encryption
import data.convoy.environments
import data.convoy.images
import data.convoy.tags
import data.main
import rego.v1

# One document each of which breaks one subject: nothing that a subject refuses is lost on the way.
test_what_any_subject_refuses_is_refused if {
	region := {"target": "local", "provider": "aws", "place": "us-east-1", "jurisdiction": "US", "prices": {"currency": "USD"}}
	fleet := {"regions": {"us": region}, "models": {"churn": {"regions": ["us"], "forecast": {"us": {"per_day": "1"}}}}}
	count(main.deny) == 0 with input as fleet
	count(main.deny) == 1 with input as object.union(fleet, {"regions": {"us": {"jurisdiction": "NL"}}})
	count(main.deny) == 1 with input as object.union(fleet, {"models": {"churn": {"regions": ["us", "eu"]}}})
	count(main.deny) > 0 with input as object.union(fleet, {"models": {"churn": {"forecast": {"us": {"per_day": "1001"}}}}})
	count(main.warn) == 1 with input as object.union(fleet, {"regions": {"us": {"prices": {"currency": "GBP"}}}})
	nobody := object.union(data.rights, {"grants": []})
	count(main.deny) == 1 with input as object.union(fleet, {"release": {}}) with data.rights as nobody
	count(main.deny) == 1 with input as {"resource": {"aws_lb_listener": {"it": [{"protocol": "HTTP"}]}}}
	count(main.deny) == 1 with input as {"apiVersion": "apps/v1", "kind": "Deployment"}
	count(main.deny) == 1 with input as {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "a"}]}}
	count(main.deny) == 1 with input as {"anything": "else"}
	count(main.deny) == 1 with input as fleet with data.tags as object.remove(data.tags, ["version"])
}

# What each subject refuses of a manifest it refuses in a list of manifests too, whichever package is asked.
test_no_subject_is_got_round_by_a_list if {
	manifests := [
		{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "secret"}},
		{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"}, "spec": {}},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}},
		{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "a"}]}},
	]
	every manifest in manifests {
		list := {"apiVersion": "v1", "kind": "List", "items": [manifest]}
		count(main.deny) > 0 with input as list
		count(encryption.deny) > 0 with input as list
		count(tags.deny) > 0 with input as list
		count(environments.deny) > 0 with input as list
	}
	# Images are looked for wherever they stand
	count(images.deny) == 1 with input as {"apiVersion": "v1", "kind": "List", "items": array.slice(manifests, 3, 4)}
	whole := {"apiVersion": "v1", "kind": "List", "items": array.slice(manifests, 0, 3)}
	count(main.deny) == 1 with input as whole
}
