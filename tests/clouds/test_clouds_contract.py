"""What every target must do; a new target joins by one entry in BENCHES.

Evidence: for `local` every part is real but the scoring service, which is a stand-in with the same environment and
health (the real one is served in the tests of the whole stack).
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from clouds_support import STACK, Made, make_revision, wait_until

from clouds.drills import breakable
from clouds.local.supervisor import launch
from clouds.serving import Capability, Deployment, Endpoint, RevisionStatus, ServingTarget, State
from clouds.targets import TARGETS, target_of
from fleet.errors import InputError, IntegrityError, NotSupported, OperationFailed, UnknownName, Unreachable
from fleet.home import Home

MODEL = "employment"


@dataclass(frozen=True)
class Bench:
    """A target with two of its regions, what makes revisions for it, and how long it may take to see one through."""

    target: ServingTarget
    regions: tuple[str, str]
    make: Callable[..., Made]
    seconds: float

    def deploy(self, made: Made, region: str | None = None, model: str = MODEL) -> RevisionStatus:
        region = region or self.regions[0]
        self.target.deploy(Deployment(model, region, made.digest), made.fetch)
        return self.target.status_of(region, model, made.digest)

    def settled(self, made: Made, region: str | None = None, model: str = MODEL) -> RevisionStatus:
        """Wait until a revision is neither absent nor starting."""
        found: list[RevisionStatus] = []

        def done() -> bool:
            found.append(self.target.status_of(region or self.regions[0], model, made.digest))
            return found[-1].state in {State.READY, State.FAILED}

        wait_until(done, self.seconds)
        return found[-1]


@contextmanager
def local() -> Iterator[Bench]:
    root = Path(tempfile.mkdtemp(prefix="convoy-"))
    home = Home(root / "home")
    first = random.randrange(20000, 30000)
    ports = {"east": range(first, first + 20), "west": range(first + 20, first + 40)}
    supervisor = launch(home, STACK)
    yield Bench(target_of("local")(home, STACK, ports), ("east", "west"), lambda *what: make_revision(root / "made", *what), 60)
    supervisor.shutdown()
    shutil.rmtree(root)


BENCHES: dict[str, Callable[[], AbstractContextManager[Bench]]] = {"local": local}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with BENCHES[request.param]() as made:
        yield made


def asked(endpoint: Endpoint | None) -> httpx.Response:
    assert endpoint
    return httpx.get(f"http://{endpoint.host}:{endpoint.port}/v2/health/ready", trust_env=False)


def test_every_target_of_the_table_has_a_bench() -> None:
    assert set(BENCHES) == set(TARGETS)


def test_a_deployed_revision_gets_ready_and_answers_with_its_digest(bench: Bench) -> None:
    made = bench.make()
    bench.deploy(made)
    status = bench.settled(made)
    assert (status.state, status.digest, status.revision) == (State.READY, made.digest, made.digest)
    answer = asked(status.endpoint)
    assert answer.headers["x-convoy-revision"] == made.digest
    assert answer.headers["x-convoy-region"] == bench.regions[0]


def test_what_was_never_deployed_is_absent_and_has_no_endpoint(bench: Bench) -> None:
    status = bench.target.status_of(bench.regions[0], MODEL, "sha256:" + "1" * 64)
    assert (status.state, status.endpoint, status.digest) == (State.ABSENT, None, None)
    assert bench.target.status(MODEL, bench.regions[0]) == ()


def test_deploying_twice_changes_nothing(bench: Bench) -> None:
    made = bench.make()
    bench.deploy(made)
    first = bench.settled(made)
    bench.deploy(made)
    assert bench.settled(made) == first
    assert bench.target.status(MODEL, bench.regions[0]) == (first,)


def test_two_revisions_stand_side_by_side_where_that_is_declared(bench: Bench) -> None:
    if not bench.target.capabilities()[Capability.SIDE_BY_SIDE].supported:
        pytest.skip("declared as not supported")
    stable, canary = bench.make("serves", "stable"), bench.make("serves", "canary")
    bench.deploy(stable)
    bench.deploy(canary)
    both = {bench.settled(stable).endpoint, bench.settled(canary).endpoint}
    assert len(both) == 2
    assert {asked(endpoint).headers["x-convoy-revision"] for endpoint in both} == {stable.digest, canary.digest}
    assert {status.revision for status in bench.target.status(MODEL, bench.regions[0])} == {stable.digest, canary.digest}


def test_deployments_at_once_do_not_get_in_each_others_way(bench: Bench) -> None:
    several = [bench.make("serves", str(number)) for number in range(3)]
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(bench.deploy, several * 2))) == 6
    statuses = [bench.settled(made) for made in several]
    assert {status.state for status in statuses} == {State.READY}
    assert len({status.endpoint for status in statuses}) == 3


def test_regions_are_independent(bench: Bench) -> None:
    made = bench.make()
    east, west = bench.regions
    bench.deploy(made, east)
    bench.deploy(made, west)
    assert bench.settled(made, east).endpoint != bench.settled(made, west).endpoint
    bench.target.retire(east, MODEL, made.digest)
    assert bench.target.status_of(east, MODEL, made.digest).state is State.ABSENT
    assert bench.settled(made, west).state is State.READY


def test_models_are_independent_even_with_the_same_revision(bench: Bench) -> None:
    made = bench.make()
    bench.deploy(made, model="first")
    bench.deploy(made, model="second")
    bench.settled(made, model="first")
    bench.target.retire(bench.regions[0], "first", made.digest)
    bench.deploy(made, model="second")
    assert bench.settled(made, model="second").state is State.READY
    assert bench.target.status("first", bench.regions[0]) == ()


def test_a_revision_that_is_not_ready_yet_is_starting_and_says_why(bench: Bench) -> None:
    made = bench.make("warming")
    bench.deploy(made)
    region = bench.regions[0]
    wait_until(lambda: "warming up" in bench.target.status_of(region, MODEL, made.digest).reason, bench.seconds)
    status = bench.target.status_of(region, MODEL, made.digest)
    assert status.state is State.STARTING
    assert status.endpoint


@pytest.mark.parametrize(("behaviour", "says"), [("dies", "this model cannot be loaded"), ("unfit", "differs from the manifest")])
def test_a_revision_that_dies_at_once_becomes_failed_with_its_last_words(bench: Bench, behaviour: str, says: str) -> None:
    made = bench.make(behaviour)
    bench.deploy(made)
    status = bench.settled(made)
    assert status.state is State.FAILED
    assert says in status.reason
    assert "status 0" not in status.reason
    assert len(status.reason) < 3000


def test_a_failed_revision_does_not_disturb_a_ready_one(bench: Bench) -> None:
    stable, broken = bench.make(), bench.make("unfit")
    bench.deploy(stable)
    before = bench.settled(stable)
    bench.deploy(broken)
    assert bench.settled(broken).state is State.FAILED
    assert bench.settled(stable) == before


def test_another_digest_than_asked_for_is_failed(bench: Bench) -> None:
    made = bench.make("impostor")
    bench.deploy(made)
    status = bench.settled(made)
    assert status.state is State.FAILED
    assert status.digest == "sha256:" + "0" * 64
    assert status.digest in status.reason


def test_retiring_twice_is_fine_and_deploying_again_works(bench: Bench) -> None:
    made = bench.make()
    region = bench.regions[0]
    bench.target.retire(region, MODEL, made.digest)
    bench.deploy(made)
    endpoint = bench.settled(made).endpoint
    bench.target.retire(region, MODEL, made.digest)
    bench.target.retire(region, MODEL, made.digest)
    assert bench.target.status_of(region, MODEL, made.digest).state is State.ABSENT
    with pytest.raises(httpx.TransportError):
        asked(endpoint)
    bench.deploy(made)
    assert bench.settled(made).state is State.READY


def test_bytes_that_are_not_the_digests_are_refused_and_nothing_starts(bench: Bench) -> None:
    made, other = bench.make("serves", "asked for"), bench.make("serves", "given")
    region = bench.regions[0]
    with pytest.raises(IntegrityError, match=region):
        bench.target.deploy(Deployment(MODEL, region, made.digest), lambda digest, to: other.fetch(other.digest, to))
    assert bench.target.status_of(region, MODEL, made.digest).state is State.ABSENT
    bench.deploy(made)
    assert bench.settled(made).state is State.READY


def test_a_store_that_cannot_be_reached_leaves_nothing_behind(bench: Bench) -> None:
    made = bench.make()

    def unreachable(digest: str, to: Path) -> None:
        (to / "half").mkdir(parents=True)
        raise Unreachable("store", "does not answer")

    with pytest.raises(Unreachable, match="store"):
        bench.target.deploy(Deployment(MODEL, bench.regions[0], made.digest), unreachable)
    assert bench.target.status_of(bench.regions[0], MODEL, made.digest).state is State.ABSENT
    bench.deploy(made)
    assert bench.settled(made).state is State.READY


def test_an_unknown_region_is_named_with_the_known_ones(bench: Bench) -> None:
    made = bench.make()
    for act in (
        lambda: bench.deploy(made, "atlantis"),
        lambda: bench.target.status(MODEL, "atlantis"),
        lambda: bench.target.status_of("atlantis", MODEL, made.digest),
        lambda: bench.target.retire("atlantis", MODEL, made.digest),
    ):
        with pytest.raises(UnknownName, match=r"atlantis.*" + bench.regions[0]):
            act()


@pytest.mark.parametrize(
    ("model", "digest"), [("../escape", "sha256:" + "1" * 64), ("", "sha256:" + "1" * 64), (MODEL, "latest"), (MODEL, "sha256:../..")]
)
def test_names_and_digests_that_could_not_be_are_refused(bench: Bench, model: str, digest: str) -> None:
    region = bench.regions[0]
    for act in (
        lambda: Deployment(model, region, digest),
        lambda: bench.target.status_of(region, model, digest),
        lambda: bench.target.retire(region, model, digest),
    ):
        with pytest.raises(InputError):
            act()


def test_a_broken_revision_stays_down_alone_until_it_is_mended_and_then_answers_as_before(bench: Bench) -> None:
    target, region = bench.target, bench.regions[0]
    if not target.capabilities()[Capability.BREAKABLE].supported:
        with pytest.raises(NotSupported, match="cannot be broken for a drill"):
            breakable(target, region)
        return
    drills, made, other = breakable(target, region), bench.make(), bench.make("serves", "other")
    deployment = Deployment(MODEL, region, made.digest)
    bench.deploy(made)
    bench.deploy(other)
    before, beside = bench.settled(made), bench.settled(other)
    drills.break_(deployment)
    assert target.status_of(region, MODEL, made.digest).state is not State.READY
    with pytest.raises(httpx.TransportError):
        asked(before.endpoint)
    with pytest.raises(OperationFailed, match="nothing was broken"):
        drills.break_(deployment)
    assert target.status_of(region, MODEL, made.digest).state is not State.READY
    drills.mend(deployment)
    wait_until(lambda: target.status_of(region, MODEL, made.digest) == before, bench.seconds)
    drills.mend(deployment)
    assert bench.settled(made) == before
    assert bench.settled(other) == beside


def test_what_was_never_deployed_is_neither_broken_nor_mended(bench: Bench) -> None:
    target, region = bench.target, bench.regions[0]
    if target.capabilities()[Capability.BREAKABLE].supported:
        deployment = Deployment(MODEL, region, "sha256:" + "1" * 64)
        with pytest.raises(OperationFailed, match=region):
            breakable(target, region).break_(deployment)
        with pytest.raises(UnknownName, match=region):
            breakable(target, region).mend(deployment)
        assert target.status(MODEL, region) == ()


def test_every_capability_is_declared_with_a_reason(bench: Bench) -> None:
    declared = bench.target.capabilities()
    assert set(declared) == set(Capability)
    assert all(support.reason for support in declared.values())
