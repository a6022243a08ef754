# Everything that Convoy's policies refuse, in the package that Conftest asks by default.
package main

import data.convoy.budgets
import data.convoy.encryption
import data.convoy.environments
import data.convoy.images
import data.convoy.kinds
import data.convoy.residency
import data.convoy.rights
import data.convoy.shape
import data.convoy.tags
import rego.v1

deny contains message if some message in shape.deny

deny contains message if some message in kinds.deny

deny contains message if some message in rights.deny

deny contains message if some message in images.deny

deny contains message if some message in residency.deny

deny contains message if some message in budgets.deny

deny contains message if some message in encryption.deny

deny contains message if some message in tags.deny

deny contains message if some message in environments.deny

warn contains message if some message in budgets.warn
