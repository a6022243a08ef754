"""The key by which an edge knows the requests of a drill, so that nobody else's are billed as one."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

NO_DRILLS: Final = ""
"""In the place of the key: nothing is labelled as a drill."""


def drill_key(edge_token: str) -> str:
    """Return the key of an edge's drills: HMAC-SHA256 of the word "drill" under the edge's token, in hex.

    It labels traffic and opens nothing: the token cannot be found from it.
    """
    return hmac.new(edge_token.encode(), b"drill", hashlib.sha256).hexdigest()
