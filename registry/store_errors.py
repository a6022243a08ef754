"""What goes wrong with an object store, in our terms."""

from __future__ import annotations

import re

from obstore import exceptions

from fleet.errors import ConvoyError, Denied, OperationFailed, UnknownName, Unreachable

_REFUSED = re.compile(r"status code: 40[13]\b")


def in_our_terms(problem: FileNotFoundError | exceptions.BaseError, subject: str, name: str) -> ConvoyError:
    """Return our error for obstore's at something in the store of a name."""
    # The lines behind the first are obstore's debugging.
    says = str(problem).partition("\n")[0]
    match problem:
        case FileNotFoundError() | exceptions.NotFoundError():
            return UnknownName(subject, f"is not in store {name}")
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return Denied(f"store {name}", "refused our credentials", "Check the region's credentials.")
        # Listings are refused without an error of their own
        case exceptions.GenericError() if _REFUSED.search(says):
            return Denied(f"store {name}", "refused our credentials", "Check the region's credentials, and that its bucket is there.")
        case exceptions.GenericError():
            return Unreachable(f"store {name}", f"failed at {subject} ({says})", "Check that it runs and has room.")
        case _:
            return OperationFailed(f"store {name}", f"failed at {subject} ({says})")
