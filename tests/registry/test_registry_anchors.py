"""The ledger's signed heads show what its own hashes cannot: a tail that was cut, a chain that was made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from anchored_world import Installation, chain_of, contents, resealed, told
from obstore.store import MemoryStore
from sqlalchemy import delete, update

from fleet.errors import InputError, LedgerBroken, Unreachable
from registry import anchors
from registry.anchors import held_alone, held_in, verify_all
from registry.heads import SignedHead, check_signature, read_head, sign_head
from registry.keys import ensure_keyring, trusted_in
from registry.ledger import Ledger
from registry.merkle import root_of
from registry.store import ContentStore
from registry.tables import EVENTS, TREE_HEADS


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    found = Installation(tmp_path)
    yield found
    found.ledger.close()


@pytest.fixture
def signed(here: Installation) -> Installation:
    """Thirty events, signed after every tenth, copied to both stores."""
    for _ in range(3):
        here.grow(10)
        here.anchor(every=10)
    return here


def test_a_head_is_signed_after_so_many_events_and_copied_to_every_store(here: Installation) -> None:
    here.grow(9)
    assert here.anchor(every=10).signed is None
    here.grow(1)
    done = here.anchor(every=10)
    assert done.signed is not None
    events = here.ledger.events()
    leaves = [anchors.entry(event.hash) for event in events]
    assert (done.signed.number, done.signed.size, done.signed.chain, done.signed.ledger) == (1, 10, events[-1].hash, events[0].hash)
    assert done.signed.root == "sha256:" + root_of(leaves).hex()
    assert (done.copied, done.away) == (2, ())
    assert here.anchor(every=10) == anchors.Anchored(None, 0, ())
    proven = here.verify()
    assert (proven.events, proven.heads, proven.signed, proven.copies, proven.behind) == (10, 1, 10, (("us", 1), ("eu", 1)), ())


def test_a_head_is_signed_when_something_ended_however_few_events_there_are(here: Installation) -> None:
    here.grow(3)
    assert here.anchor(every=100, ended=lambda event: event.seq == 2).signed is not None
    here.grow(1)
    assert here.anchor(every=100, ended=lambda event: event.seq == 2).signed is None


def test_nothing_is_signed_of_an_empty_ledger(here: Installation) -> None:
    assert here.anchor(every=1, ended=lambda _: True).signed is None
    assert here.verify().heads == 0


def test_a_store_that_was_away_is_caught_up_later(signed: Installation) -> None:
    class Dark(ContentStore):
        def notes(self, *_: str) -> tuple[str, ...]:
            raise Unreachable("store asia", "does not answer")

    signed.stores["asia"] = Dark(MemoryStore(), "asia")
    signed.grow(10)
    done = signed.anchor(every=10)
    assert done.signed is not None
    assert (done.copied, done.away) == (2, ("asia: store asia: does not answer",))
    signed.stores["asia"] = ContentStore(MemoryStore(), "asia")
    assert signed.verify().behind == ("asia",)
    assert signed.anchor(every=10) == anchors.Anchored(None, 4, ())
    assert contents(signed.stores["asia"]) == contents(signed.stores["eu"])
    assert signed.verify().behind == ()


class KilledError(BaseException):
    """As SIGKILL: nothing catches it."""


def test_killed_anywhere_it_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that touches the database or a store is one to be killed before, and one to be killed after."""
    steps = 0
    monkeypatch.setattr(ContentStore, "_create", at_each(ContentStore._create, lambda: step()))
    monkeypatch.setattr(ContentStore, "_read", at_each(ContentStore._read, lambda: step()))
    monkeypatch.setattr(Ledger, "add_tree_head", at_each(Ledger.add_tree_head, lambda: step()))
    left = -1

    def step() -> None:
        nonlocal left, steps
        steps += 1
        if left == 0:
            raise KilledError
        left -= 1

    def run(kill: int, root: Path) -> Installation:
        nonlocal left
        here = Installation(root)
        here.write(chain_of(20))
        left = kill
        try:
            here.anchor(every=10)
        except KilledError:
            left = -1
            here.anchor(every=10)
        return here

    (tmp_path / "whole").mkdir()
    whole = run(-1, tmp_path / "whole")
    total, found = steps, []
    assert total >= 2 * (1 + 2 * 2)
    for kill in range(total):
        root = tmp_path / str(kill)
        root.mkdir()
        here = run(kill, root)
        left = -1
        assert here.verify().behind == ()
        found.append((len(here.ledger.tree_heads()), {name: list(contents(store)) for name, store in here.stores.items()}))
    assert set(map(str, found)) == {str((1, {name: list(contents(store)) for name, store in whole.stores.items()}))}


def at_each(act: Callable[..., object], step: Callable[[], None]) -> Callable[..., object]:
    def stepped(*given: object) -> object:
        step()
        done = act(*given)
        step()
        return done

    return stepped


def test_two_at_once_sign_one_head(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write(chain_of(10))
    real = anchors.sign_head

    def slower(*given: object) -> SignedHead:
        monkeypatch.setattr(anchors, "sign_head", real)
        here.anchor(every=10)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(anchors, "sign_head", slower)
    assert here.anchor(every=10).signed is None
    assert here.verify().heads == 1


# What one can do to it


def test_a_tail_that_is_cut_with_the_head_row_is_found_by_the_signed_head(signed: Installation) -> None:
    signed.rewrite(signed.events()[:25])
    for verify in (signed.ledger.verify, signed.verify, signed.anchor):
        with pytest.raises(LedgerBroken, match=r"ledger event 26: is missing: ledger head 3 in the ledger signed 30 events"):
            verify()


def test_a_tail_that_is_cut_with_its_heads_is_found_by_the_copies(signed: Installation) -> None:
    signed.rewrite(signed.events()[:15])
    with signed.editing() as connection:
        connection.execute(delete(TREE_HEADS).where(TREE_HEADS.c.number > 1))
    assert signed.ledger.verify() == 15
    with pytest.raises(LedgerBroken, match=r"ledger event 16: is missing: ledger head \d in store \w\w signed"):
        signed.verify()
    with pytest.raises(LedgerBroken, match=r"ledger head 3 in the ledger: is gone, and store us holds it"):
        signed.anchor()


def test_a_chain_that_was_made_anew_is_found_by_the_signed_root(signed: Installation) -> None:
    events = signed.events()
    events[14] = replace(events[14], payload={"weight": 0})
    signed.rewrite(resealed(events))
    for verify in (signed.ledger.verify, signed.verify):
        with pytest.raises(LedgerBroken, match=r"ledger events 11 to 20: are not what ledger head 2 in \S+ ?\S+ signed"):
            verify()


def test_a_ledger_that_was_written_anew_whole_is_found_by_the_copies(signed: Installation) -> None:
    stolen = signed.keys
    signed.rewrite(resealed([replace(event, actor="somebody") for event in signed.events()]), heads=True)
    for _ in range(3):
        anchors.anchor_if_due(signed.ledger, stolen, {}, 10)
    assert verify_all(signed.ledger, stolen.trusted, {}).heads == 1
    with pytest.raises(LedgerBroken, match=r"ledger event 1: is not the one of ledger head 1 in store us"):
        signed.verify()
    with pytest.raises(LedgerBroken, match=r"is gone|is not the one of the ledger"):
        signed.anchor()


def test_a_ledger_that_was_written_anew_is_found_by_one_head_that_was_kept_elsewhere(signed: Installation, tmp_path: Path) -> None:
    kept = tmp_path / "mailed.json"
    kept.write_bytes(signed.ledger.tree_heads()[1].data)
    assert verify_all(signed.ledger, signed.keys.trusted, {}, [held_alone(kept)]).events == 30
    signed.rewrite(signed.events()[:12], heads=True)
    assert signed.ledger.verify() == 12
    with pytest.raises(LedgerBroken, match=rf"ledger event 13: is missing: ledger head 2 in {kept} signed 20 events"):
        verify_all(signed.ledger, signed.keys.trusted, {}, [held_alone(kept)])


@pytest.mark.parametrize(
    ("number", "named"), [(1, "head 1 in the ledger: is gone"), (2, "head 2 in the ledger: is gone"), (3, "head 3 in")]
)
def test_a_head_that_was_removed_from_the_ledger_is_found(signed: Installation, number: int, named: str) -> None:
    with signed.editing() as connection:
        connection.execute(delete(TREE_HEADS).where(TREE_HEADS.c.number == number))
    for verify in (signed.verify, signed.anchor):
        with pytest.raises(LedgerBroken, match=named):
            verify()


def test_a_head_that_was_removed_from_within_a_store_is_found(signed: Installation) -> None:
    obstore.delete(signed.stores["eu"]._store, "heads/000000000002")
    for verify in (signed.verify, signed.anchor):
        with pytest.raises(LedgerBroken, match=r"ledger head 2 in store eu: is gone"):
            verify()


def test_the_newest_head_that_a_store_lost_is_told_and_copied_again(signed: Installation) -> None:
    obstore.delete(signed.stores["eu"]._store, "heads/000000000003")
    assert signed.verify().behind == ("eu",)
    assert signed.anchor(every=100).copied == 1
    assert signed.verify().behind == ()


def resign(signed: Installation, keys: anchors.Keyring) -> list[SignedHead]:
    """Return every head signed anew with another key, each following the one before."""
    found: list[SignedHead] = []
    for old in signed.ledger.tree_heads():
        head = replace(old.head, key=keys.key.public.id, previous=found[-1].digest if found else old.head.previous)
        found.append(sign_head(head, keys.key))
    return found


def test_heads_that_were_signed_with_another_key_are_not_believed(signed: Installation, tmp_path: Path) -> None:
    for own in resign(signed, ensure_keyring(tmp_path / "other")):
        with signed.editing() as connection:
            connection.execute(update(TREE_HEADS).where(TREE_HEADS.c.number == own.head.number).values(envelope=own.data.decode()))
    for verify in (lambda: signed.verify(stores=False), signed.anchor):
        with pytest.raises(LedgerBroken, match=r"head 3 in the ledger: was signed with the key sha256:\w+, which is not trusted"):
            verify()


def test_one_head_that_was_signed_with_another_key_breaks_the_sequence(signed: Installation, tmp_path: Path) -> None:
    own = resign(signed, ensure_keyring(tmp_path / "other"))[1]
    with signed.editing() as connection:
        connection.execute(update(TREE_HEADS).where(TREE_HEADS.c.number == 2).values(envelope=own.data.decode()))
    with pytest.raises(LedgerBroken, match=r"head \d in the ledger: does not follow head \d"):
        signed.verify(stores=False)


def test_a_head_that_claims_a_trusted_key_needs_its_signature(signed: Installation, tmp_path: Path) -> None:
    other = ensure_keyring(tmp_path / "other")
    last = signed.ledger.tree_heads()[-1]
    forged = sign_head(last.head, other.key)
    assert forged.head.key == signed.keys.key.public.id
    with pytest.raises(LedgerBroken, match="does not have its key's signature"):
        check_signature(forged, signed.keys.trusted | other.trusted)
    with signed.editing() as connection:
        connection.execute(update(TREE_HEADS).where(TREE_HEADS.c.number == 3).values(envelope=forged.data.decode()))
    with pytest.raises(LedgerBroken, match="does not have its key's signature"):
        signed.anchor()


@pytest.mark.parametrize("name", ["heads/000000000003", "heads/000000000004"])
def test_what_else_lies_among_a_stores_heads_is_found(signed: Installation, name: str) -> None:
    obstore.put(signed.stores["eu"]._store, name, b"{}")
    for verify in (signed.verify, signed.anchor):
        with pytest.raises(LedgerBroken, match=r"ledger head in store eu"):
            verify()


@pytest.mark.parametrize("name", ["heads/notes", "heads/.DS_Store", "heads/3"])
def test_a_file_that_is_named_like_no_head_stops_nobody(signed: Installation, name: str) -> None:
    obstore.put(signed.stores["eu"]._store, name, b"{}")
    signed.verify()
    signed.anchor()


def test_two_that_anchor_at_once_find_nothing_wrong_with_a_ledger_that_grew_meanwhile(
    signed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first one's looks at the stores and at the ledger, the second one signs and copies."""
    real = anchors._own

    def meanwhile(*given: object) -> object:
        monkeypatch.setattr(anchors, "_own", real)
        signed.ledger.append(told(1))
        signed.anchor()
        return real(*given)

    monkeypatch.setattr(anchors, "_own", meanwhile)
    signed.anchor()
    signed.verify()


def test_with_public_halves_alone_the_stores_are_checked_and_nothing_is_signed(signed: Installation) -> None:
    before = signed.ledger.tree_heads()
    signed.ledger.append(told(1))
    done = anchors.anchor_if_due(signed.ledger, signed.keys.trusted, signed.stores, 1)
    assert (done.signed, signed.ledger.tree_heads()) == (None, before)
    obstore.put(signed.stores["eu"]._store, "heads/000000000009", b"{}")
    with pytest.raises(LedgerBroken):
        anchors.anchor_if_due(signed.ledger, signed.keys.trusted, signed.stores, 1)


def test_a_store_with_another_ledgers_heads_is_found(signed: Installation, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Installation(tmp_path / "other")
    other.keys = signed.keys
    other.write(chain_of(10))
    other.anchor()
    signed.stores["eu"] = other.stores["eu"]
    with pytest.raises(LedgerBroken, match=r"event 1: is not the one of ledger head 1 in store eu: this is another ledger"):
        signed.verify()
    with pytest.raises(LedgerBroken, match=r"ledger head 1 in store eu: is not the one of the ledger"):
        signed.anchor()


def test_nothing_is_signed_while_the_ledger_does_not_verify(signed: Installation) -> None:
    signed.grow(5)
    with signed.editing() as connection:
        connection.execute(update(EVENTS).where(EVENTS.c.seq == 33).values(actor="somebody"))
    with pytest.raises(LedgerBroken, match="event 33"):
        signed.anchor()
    assert len(signed.ledger.tree_heads()) == 3


EVERY_HUNDREDTH = range(100, 10_001, 100)


def test_ten_thousand_events_changed_at_every_hundredth_place_are_found_each_time(tmp_path: Path) -> None:
    """The check is taken at the head before the place; everything behind it is told to it as the tamperer left it."""
    from copy import deepcopy

    from registry.events import ChainCheck, Head
    from registry.heads import TreeCheck

    here, events = Installation(tmp_path), chain_of(10_000)
    for size in EVERY_HUNDREDTH:
        here.write(events[size - 100 : size])
    heads = all_heads(here, events)
    chain, tree = ChainCheck(), TreeCheck(heads)
    found, followed = 0, 0
    for place in EVERY_HUNDREDTH:
        for event in events[followed : place - 2]:
            chain.follow(event)
            tree.follow(event)
        followed = place - 2
        before, event, *after = events[place - 2 : place + 1]
        whole, cut = Head(events[-1].seq, events[-1].hash), Head(before.seq, before.hash)
        for tampered, ends, named in (
            ([before, replace(event, actor="x"), *after], whole, place),
            ([before, *after], whole, place),
            ([event, before, *after], whole, place - 1),
            ([before], cut, place),
        ):
            with pytest.raises(LedgerBroken, match=rf"ledger event {named}\b"):
                told_to(deepcopy(chain), deepcopy(tree), tampered, ends)
            found += 1
    for event in events[followed:]:
        chain.follow(event)
        tree.follow(event)
    assert found == 4 * 100
    chain.end(Head(10_000, events[-1].hash))
    tree.end()


def all_heads(here: Installation, events: list[object]) -> list[SignedHead]:
    found: list[SignedHead] = []
    leaves = [anchors.entry(event.hash) for event in here.events()]
    for size in EVERY_HUNDREDTH:
        event = here.ledger.events(after_seq=size - 1, limit=1)[0]
        root = "sha256:" + root_of(leaves[:size]).hex()
        previous = {"previous": found[-1].digest} if found else {}
        head = anchors.TreeHead(
            len(found) + 1, size, root, event.hash, here.ledger.events(limit=1)[0].hash, event.at, here.keys.key.public.id, **previous
        )
        found.append(sign_head(head, here.keys.key))
    return found


def told_to(chain, tree, events, ends) -> None:  # type: ignore[no-untyped-def]
    for event in events:
        chain.follow(event)
        tree.follow(event)
    chain.end(ends)
    tree.end()


@pytest.mark.parametrize("kind", ["edit", "drop", "swap", "cut"])
def test_the_same_in_a_database_at_every_hundredth_of_a_thousand(tmp_path: Path, kind: str) -> None:
    here = Installation(tmp_path)
    events = chain_of(1_000)
    for size in range(100, 1001, 100):
        here.write(events[size - 100 : size])
        here.anchor(every=100)
    for place in range(100, 1001, 100):
        here.rewrite(tampered_with(events, place, kind))
        with pytest.raises(LedgerBroken, match=rf"ledger event {place}\b|ledger events {place - 99} to {place}\b"):
            here.verify()
    here.rewrite(events)
    assert here.verify().events == 1_000


def tampered_with(events: list, place: int, kind: str) -> list:  # type: ignore[type-arg]
    """Return the events tampered with at a place (from 1), every hash made right again so that only the heads can tell."""
    at = place - 1
    match kind:
        case "edit":
            return resealed([*events[:at], replace(events[at], payload={"weight": -1}), *events[place:]])
        case "drop":
            return resealed([*events[:at], *events[place:]])
        case "swap":
            return resealed([*events[: at - 1], events[at], events[at - 1], *events[place:]])
    return events[:at]


# Keys and copies


def test_the_secret_half_is_for_its_owner_alone_and_in_nothing_that_is_written(signed: Installation, tmp_path: Path) -> None:
    secret = tmp_path / "keys" / "signing.key"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    body = "".join(secret.read_text().splitlines()[1:-1])
    everything = b"".join(
        [(tmp_path / "ledger.db").read_bytes(), *(data for store in signed.stores.values() for data in contents(store).values())]
    )
    assert body.encode() not in everything
    assert body not in repr(signed.keys)
    assert b"PRIVATE" not in (tmp_path / "keys" / "signing.pub").read_bytes()


def test_a_keyring_is_made_once_and_read_back(tmp_path: Path) -> None:
    first = ensure_keyring(tmp_path / "keys")
    assert ensure_keyring(tmp_path / "keys").key.public.id == first.key.public.id
    assert trusted_in(tmp_path / "keys" / "signing.pub").keys() == first.trusted.keys()


def test_after_a_change_of_keys_the_old_heads_are_still_believed(signed: Installation, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    (keys / "signing.pub").rename(keys / "2026.pub")
    (keys / "signing.key").unlink()
    old, signed.keys = signed.keys, ensure_keyring(keys)
    assert signed.keys.key.public.id != old.key.public.id
    signed.grow(10)
    assert signed.anchor(every=10).signed is not None
    assert signed.verify().heads == 4
    with pytest.raises(LedgerBroken, match="not trusted"):
        verify_all(signed.ledger, old.trusted, {})


def test_a_key_that_is_gone_is_not_silently_replaced(tmp_path: Path) -> None:
    ensure_keyring(tmp_path)
    (tmp_path / "signing.key").unlink()
    with pytest.raises(InputError, match="is gone"):
        ensure_keyring(tmp_path)


def test_a_public_half_of_another_key_is_refused(tmp_path: Path) -> None:
    ensure_keyring(tmp_path / "a")
    ensure_keyring(tmp_path / "b")
    (tmp_path / "b" / "signing.pub").write_bytes((tmp_path / "a" / "signing.pub").read_bytes())
    with pytest.raises(InputError, match="is not the public half"):
        ensure_keyring(tmp_path / "b")


@pytest.mark.parametrize("text", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused_by_name(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "k.pub").write_bytes(text)
    with pytest.raises(InputError, match=r"k\.pub"):
        trusted_in(tmp_path / "k.pub")
    with pytest.raises(InputError, match=r"missing"):
        trusted_in(tmp_path / "missing")


def test_the_copies_of_a_folder_are_all_or_broken(signed: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "taken away"
    (folder / "heads").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no signed head"):
        held_in(folder)
    for name, data in contents(signed.stores["eu"]).items():
        (folder / "heads" / name).write_bytes(data)
    assert verify_all(signed.ledger, signed.keys.trusted, {"taken away": held_in(folder)}).copies == (("taken away", 3),)
    (folder / "heads" / "000000000001").unlink()
    with pytest.raises(LedgerBroken, match="head"):
        held_in(folder)


def test_a_head_says_in_plain_json_what_it_signs(signed: Installation) -> None:
    import base64

    last = signed.ledger.tree_heads()[-1]
    envelope = json.loads(last.data)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    assert payload["size"] == 30
    assert payload["at"].endswith("Z")
    assert len(payload["consistency"]) >= 1
    assert set(payload) == {"number", "size", "root", "chain", "ledger", "at", "key", "previous", "consistency"}


@pytest.mark.parametrize(
    "change", [{"size": True}, {"number": "1"}, {"root": "x"}, {"extra": 1}, {"at": "yesterday"}, {"consistency": None}]
)
def test_what_is_no_head_is_a_broken_ledger(signed: Installation, change: dict[str, object]) -> None:
    from fleet.canonical import canonical_json
    from registry.dsse import sealed
    from registry.heads import PAYLOAD_TYPE

    head = json.loads(signed.ledger.tree_heads()[0].head.to_bytes()) | change
    forged = sealed(PAYLOAD_TYPE, canonical_json(head), signed.keys.key).to_bytes()
    with pytest.raises(LedgerBroken):
        signed.ledger.verify(read_head(forged, "a file"))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"payloadType":"x","payload":"","signatures":[]}', b"[" * 100_000])
def test_what_is_no_envelope_is_a_broken_ledger(data: bytes) -> None:
    with pytest.raises(LedgerBroken, match="ledger head in a file"):
        read_head(data, "a file")
