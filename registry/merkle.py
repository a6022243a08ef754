"""The Merkle tree of a log: roots, and proofs that an entry is in it or that a later log only adds to an earlier one.

RFC 6962, section 2.1. Leaves and nodes are hashed under prefixes of their own, so that neither passes for the other.
Everything here is pure; hashes are the 32 bytes of SHA-256. Verifying follows RFC 9162, sections 2.1.3.2 and 2.1.4.2,
which say as an algorithm what RFC 6962 leaves to the reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAF, NODE = b"\x00", b"\x01"
EMPTY = hashlib.sha256(b"").digest()
"""The root of a log without entries."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry of the log."""
    return hashlib.sha256(LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of what stands above two subtrees."""
    return hashlib.sha256(NODE + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of a log's entries."""
    growing = Growing()
    for leaf in leaves:
        growing.add(leaf)
    return growing.root()


class Growing:
    """A tree that only grows, of which no more is kept than its complete subtrees: one hash for each bit of its size."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next entry."""
        found, size = leaf, self.size
        while size & 1:
            found = node_hash(self._subtrees.pop(), found)
            size >>= 1
        self._subtrees.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of what was added so far."""
        if not self._subtrees:
            return EMPTY
        *rest, found = self._subtrees
        for subtree in reversed(rest):
            found = node_hash(subtree, found)
        return found


def inclusion_proof(leaves: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """Return what proves that the entry at a place (from 0) is in the log; raises ValueError for a place past its end."""
    if not 0 <= place < len(leaves):
        raise ValueError(f"there is no entry {place} among {len(leaves)}")
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if place < split:
        return (*inclusion_proof(left, place), root_of(right))
    return (*inclusion_proof(right, place - split), root_of(left))


def includes(root: bytes, size: int, place: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that a leaf is at a place of the log of that size and root."""
    if not 0 <= place < size:
        return False
    here, last, found = place, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node_hash(step, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, step)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(leaves: Sequence[bytes], earlier: int) -> tuple[bytes, ...]:
    """Return what proves that the log only added to its first `earlier` entries (1 or more); raises ValueError past its end."""
    if not 0 < earlier <= len(leaves):
        raise ValueError(f"a log of {len(leaves)} entries cannot follow one of {earlier}")
    return _subproof(earlier, leaves, whole=True)


def follows(earlier: tuple[int, bytes], later: tuple[int, bytes], proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the later log (size, root) has the earlier one (size of 1 or more, root) as its beginning."""
    (first, first_root), (second, second_root) = earlier, later
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    # A log whose size is a power of two is one subtree, which the proof need not repeat
    steps = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not steps:
        return False
    here, last = first - 1, second - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, step)
        here, last = here >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _subproof(earlier: int, leaves: Sequence[bytes], whole: bool) -> tuple[bytes, ...]:
    """Return RFC 6962's SUBPROOF; `whole` is whether the earlier log is this very subtree, whose root is known then."""
    if earlier == len(leaves):
        return () if whole else (root_of(leaves),)
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if earlier <= split:
        return (*_subproof(earlier, left, whole), root_of(right))
    return (*_subproof(earlier - split, right, whole=False), root_of(left))


def _split(size: int) -> int:
    """Return the largest power of two below a size of 2 or more."""
    return 1 << (size - 1).bit_length() - 1
