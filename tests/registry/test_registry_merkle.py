"""The Merkle tree is RFC 6962's: its known vectors, and the RFC's own recursive definitions as an oracle."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.merkle import Growing, consistency_proof, follows, includes, inclusion_proof, leaf_hash, node_hash, root_of

ENTRIES = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The vectors of Certificate Transparency's own test (google/certificate-transparency, merkletree/merkle_tree_test.cc)."""
INCLUSIONS = {
    (1, 0): [],
    (8, 0): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (8, 5): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 2): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (5, 1): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def naive_root(entries: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = largest_power_below(len(entries))
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_path(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1."""
    if len(entries) == 1:
        return []
    k = largest_power_below(len(entries))
    if m < k:
        return [*naive_path(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_path(m - k, entries[k:]), naive_root(entries[:k])]


def naive_subproof(m: int, entries: list[bytes], b: bool) -> list[bytes]:
    """RFC 6962, section 2.1.2."""
    if m == len(entries):
        return [] if b else [naive_root(entries)]
    k = largest_power_below(len(entries))
    if m <= k:
        return [*naive_subproof(m, entries[:k], b), naive_root(entries[k:])]
    return [*naive_subproof(m - k, entries[k:], False), naive_root(entries[:k])]


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def leaves(entries: list[bytes]) -> list[bytes]:
    return [leaf_hash(entry) for entry in entries]


def test_the_roots_are_those_of_certificate_transparency() -> None:
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [root_of(leaves(ENTRIES[:size])).hex() for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize(("size", "place"), INCLUSIONS)
def test_inclusion_proofs_are_those_of_certificate_transparency(size: int, place: int) -> None:
    proof = inclusion_proof(leaves(ENTRIES[:size]), place)
    assert [step.hex() for step in proof] == INCLUSIONS[size, place]
    assert includes(bytes.fromhex(ROOTS[size - 1]), size, place, leaf_hash(ENTRIES[place]), proof)


@pytest.mark.parametrize(("earlier", "later"), CONSISTENCIES)
def test_consistency_proofs_are_those_of_certificate_transparency(earlier: int, later: int) -> None:
    proof = consistency_proof(leaves(ENTRIES[:later]), earlier)
    assert [step.hex() for step in proof] == CONSISTENCIES[earlier, later]
    assert follows((earlier, bytes.fromhex(ROOTS[earlier - 1])), (later, bytes.fromhex(ROOTS[later - 1])), proof)


def test_a_leaf_never_passes_for_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


LOGS = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


@settings(deadline=None)
@given(LOGS, st.data())
def test_roots_and_proofs_are_those_of_the_recursive_definitions(entries: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    earlier = data.draw(st.integers(1, len(entries)))
    hashed = leaves(entries)
    assert root_of(hashed) == naive_root(entries)
    assert list(inclusion_proof(hashed, place)) == naive_path(place, entries)
    assert list(consistency_proof(hashed, earlier)) == naive_subproof(earlier, entries, True)
    assert includes(naive_root(entries), len(entries), place, hashed[place], inclusion_proof(hashed, place))
    assert follows((earlier, naive_root(entries[:earlier])), (len(entries), naive_root(entries)), consistency_proof(hashed, earlier))


@settings(deadline=None)
@given(LOGS, st.data())
def test_a_changed_log_has_no_proof(entries: list[bytes], data: st.DataObject) -> None:
    earlier = data.draw(st.integers(1, len(entries)))
    changed = data.draw(st.integers(0, earlier - 1))
    other = [*entries]
    other[changed] += b"x"
    later = (len(other), root_of(leaves(other)))
    proof = consistency_proof(leaves(other), earlier)
    assert not follows((earlier, root_of(leaves(entries[:earlier]))), later, proof)
    assert not includes(later[1], later[0], changed, leaf_hash(entries[changed]), inclusion_proof(leaves(other), changed))


@settings(deadline=None)
@given(LOGS, st.data())
def test_a_proof_that_is_changed_anywhere_proves_nothing(entries: list[bytes], data: st.DataObject) -> None:
    place, earlier = data.draw(st.integers(0, len(entries) - 1)), data.draw(st.integers(1, len(entries)))
    hashed = leaves(entries)
    size, root = len(entries), root_of(hashed)
    old = (earlier, root_of(hashed[:earlier]))
    for proof, holds in [
        (inclusion_proof(hashed, place), lambda steps: includes(root, size, place, hashed[place], steps)),
        (consistency_proof(hashed, earlier), lambda steps: follows(old, (size, root), steps)),
    ]:
        assert holds(proof)
        assert not holds([*proof, root])
        for at in range(len(proof)):
            assert not holds([*proof[:at], *proof[at + 1 :]])
            assert not holds([*proof[:at], bytes(32), *proof[at + 1 :]])


@settings(deadline=None)
@given(LOGS)
def test_a_tree_that_grows_has_at_each_size_the_root_of_that_size(entries: list[bytes]) -> None:
    growing = Growing()
    for size, entry in enumerate(entries, start=1):
        growing.add(leaf_hash(entry))
        assert (growing.size, growing.root()) == (size, naive_root(entries[:size]))


def test_what_is_past_the_end_has_no_proof() -> None:
    hashed = leaves(ENTRIES)
    for ask in (lambda: inclusion_proof(hashed, 8), lambda: consistency_proof(hashed, 9), lambda: consistency_proof(hashed, 0)):
        with pytest.raises(ValueError, match=r"there is no entry|cannot follow"):
            ask()
    assert not includes(root_of(hashed), 8, 8, hashed[7], ())
    assert not follows((0, bytes(32)), (8, root_of(hashed)), ())
    assert not follows((9, bytes(32)), (8, root_of(hashed)), ())
