"""What a model may depend on, under which rights, and who may waive that: the keys `gates.dependencies`, `gates.licences`,
`gates.privacy` and `gates.waivers` of a model in fleet.yaml."""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fleet.declaring import Declared, RelativePath

KEY_BYTES = 32


def _exact(value: object) -> object:
    """Refuse what YAML has already turned into a binary number."""
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary number: write it in quotes, as '{value}'")
    return value


def _public_key(text: str) -> str:
    """Refuse what is no Ed25519 public key."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as problem:
        raise ValueError("must be the base64 text that `convoy waiver key` prints") from problem
    if len(raw) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64, as `convoy waiver key` prints them")
    return text


Exact = Annotated[Decimal, BeforeValidator(_exact)]
Rated = Literal["low", "medium", "high", "critical"]
Licence = Annotated[str, Field(min_length=1, max_length=1000)]
Person = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$")]
PublicKey = Annotated[str, AfterValidator(_public_key)]


class Dependencies(Declared):
    """What is known to be wrong with what a model needs, by the advisories of the setting CONVOY_ADVISORIES.

    A vulnerability rated `fail_at` or worse fails; one that nobody rated is `unknown`: it fails like a critical one, or is
    inconclusive. Advisories of which the newest is older than `advisory_days` are inconclusive. With `lock`, a file of
    requirements beside fleet.yaml, everything that is served must be pinned there at its version and by a hash, and the
    Bento carries these hashes.
    """

    fail_at: Rated = "critical"
    unknown: Literal["inconclusive", "critical"] = "inconclusive"
    advisory_days: Annotated[int, Field(ge=1, le=365)] = 7
    lock: RelativePath | None = None


class Licences(Declared):
    """Under which licences a model, its data and what it needs may stand, as SPDX expressions.

    `allow` names licences, such as MIT, each with its exceptions; or one with one exception, such as
    `GPL-2.0-only WITH Classpath-exception-2.0`. `packages` and `data` say what is known of a package, or of a data set by
    its path in its repository, that does not say it itself; `model` says it of the model where its version does not.
    """

    allow: Annotated[tuple[Licence, ...], Field(min_length=1)]
    data: dict[str, Licence] = Field(default_factory=dict)
    model: Licence | None = None
    packages: dict[str, Licence] = Field(default_factory=dict)


class Privacy(Declared):
    """What a model trained on sensitive data must promise: differential privacy within these limits.

    The training data is sensitive where this says so, or the tag `convoy.data.sensitive` of the version. Then the version's
    tags give `epsilon`, `delta` and `accuracy_loss`, none above its limit here; `delta` is also below one part in the number
    of training rows.
    """

    sensitive: bool = False
    epsilon: Annotated[Exact, Field(gt=0, le=100)] = Decimal("8")
    delta: Annotated[Exact, Field(ge=0, le=Decimal("0.01"))] = Decimal("0.00001")
    accuracy_loss: Annotated[Exact, Field(ge=0, le=1)] = Decimal("0.05")


class WaiverKeys(Declared):
    """Who may waive what a gate refuses: two different ones of the people in `keys`, for `longest_days` ahead at most.

    `folder` lies beside fleet.yaml and holds the waivers (`*.json`). `keys` are Ed25519 public keys by whose they are.
    """

    folder: RelativePath
    keys: Annotated[dict[Person, PublicKey], Field(min_length=2)]
    longest_days: Annotated[int, Field(ge=1, le=366)] = 90

    @model_validator(mode="after")
    def _each_person_has_a_key_of_their_own(self) -> Self:
        known: dict[bytes, str] = {}
        for person, key in self.keys.items():
            other = known.setdefault(base64.b64decode(key), person)
            if other != person:
                raise ValueError(f"keys: {other} and {person} have the same key, so one of them could sign for both")
        return self
