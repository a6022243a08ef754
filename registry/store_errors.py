"""obstore's errors in our terms, told apart by their classes."""

from __future__ import annotations

import obstore
from obstore import exceptions
from obstore.store import ObjectStore

from fleet.errors import ConvoyError, Denied, OperationFailed, UnknownName, Unreachable

# obstore raises Python's own error for a missing object, whatever the store.
MISSING = (FileNotFoundError, exceptions.NotFoundError)
REFUSED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
QUICK_SECONDS = 3.0
"""One who refuses us says so within this time; one that took longer is not asked once more."""


def in_our_terms(
    problem: FileNotFoundError | exceptions.BaseError, named: tuple[ObjectStore, str, str], subject: str, seconds: float
) -> ConvoyError:
    """Return our error for obstore's: of which store (with its name and what helps), at what, and after how many seconds."""
    store, name, remedy = named
    # Behind it come the server's own words, and lines of obstore's debugging
    says = str(problem).partition("\n")[0].partition(": <")[0]
    if isinstance(problem, MISSING):
        return UnknownName(subject, f"is not in store {name}")
    if isinstance(problem, REFUSED):
        return Denied(f"store {name}", "refused our credentials", remedy)
    if not isinstance(problem, exceptions.GenericError):
        return OperationFailed(f"store {name}", f"failed at {subject} ({says})", remedy)
    if seconds < QUICK_SECONDS and _refuses(store):
        return Denied(f"store {name}", f"refused our credentials at {subject}", remedy)
    return Unreachable(f"store {name}", f"failed at {subject} ({says})", remedy)


def _refuses(store: ObjectStore) -> bool:
    """Ask for an object: that a listing or a deletion is refused, obstore tells in words alone."""
    try:
        obstore.head(store, "blobs")
    except REFUSED:
        return True
    except (FileNotFoundError, exceptions.BaseError):
        return False
    return False
