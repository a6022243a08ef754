"""What the gates' benchmark declares can be declared, and a refused candidate gives no figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gate_cases import quality
from fleet.errors import InputError
from policies.candidate import Candidate
from policies.policy import PolicyAllows


def demo(folder: Path) -> quality.Demo:
    nothing, fleet = folder / "nothing", quality._fleet(folder)
    declared = fleet.models["employment"]
    return quality.Demo(Candidate("employment", declared, nothing, nothing, nothing, nothing, nothing, folder, 1, regions=fleet.regions))


@pytest.mark.parametrize("robustness", [{}, quality.LOOKED_FOR])
def test_what_is_timed_is_what_a_fleet_file_may_declare(tmp_path: Path, robustness: dict[str, object]) -> None:
    gates = demo(tmp_path).declaring(robustness).declared.gates
    assert gates.quality is not None
    assert len(gates.quality.slices) == 4
    assert gates.robustness is not None
    assert (gates.robustness.search is None) == (not robustness)


def test_a_candidate_that_is_refused_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"was refused \(schema present"):
        quality._asked(demo(tmp_path).declaring({}), tmp_path)


def test_what_is_timed_is_allowed_by_the_policies(tmp_path: Path) -> None:
    assert PolicyAllows().gather(demo(tmp_path).declaring({})).decisions[0][1].reasons == ()
