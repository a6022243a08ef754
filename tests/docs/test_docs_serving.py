"""docs/serving.md names every path, status, header and setting of the service, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from bentos.service import errors, invocations, schemas, visits
from bentos.service.board import Board
from bentos.service.desk import NOT_READY, RETRY_AFTER
from bentos.service.flavors import SKLEARN_ASKS
from bentos.service.routes import table
from bentos.service.settings import CLOUDS, PREFIX, ServiceSettings

TEXT = (Path(__file__).parents[2] / "docs/serving.md").read_text()


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_path_stands_in_the_table_of_doors() -> None:
    told = {
        path for line in section("Doors").splitlines() if line.startswith("| `/") for path in re.findall(r"`(/[^`]*)`", line.split("|")[1])
    }
    assert told == {route.path for route in table(ServiceSettings(Path("/")))}


def test_every_setting_and_every_variable_of_a_cloud_is_told() -> None:
    told = set(re.findall(rf"`{PREFIX}([A-Z_]+)`", section("Settings")))
    assert told == {name.upper() for name in ServiceSettings.__dataclass_fields__}
    assert [variable for variable, _ in CLOUDS if f"`{variable}`" not in section("Settings")] == []


def test_every_status_is_told() -> None:
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", section("Statuses"), re.MULTILINE)}
    kinds = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.Problem)]
    assert told == {200} | {kind.status for kind in kinds}


def test_every_header_and_shape_is_told() -> None:
    marks = ["x-convoy-revision", "x-convoy-region", "x-request-id", "x-convoy-answer", NOT_READY[0].decode(), RETRY_AFTER.decode()]
    assert [name for name in marks if f"| `{name}` |" not in section("Headers of every answer")] == []
    named = [name.decode() for name in (*visits.REQUEST_IDS, *invocations.REFUSED, invocations.ATTRIBUTES)]
    assert [name for name in named if name.removeprefix("x-amzn-sagemaker") not in TEXT.lower()] == []
    assert [key for key in schemas.SHAPES if f"| `{key}` |" not in TEXT] == []


def test_every_figure_and_every_method_is_named() -> None:
    families = [line.split()[2] for line in Board().text({}).decode().splitlines() if line.startswith("# TYPE")]

    assert [name for name in families if f"`{name}`" not in TEXT and f"`{name.removeprefix('convoy_service')}`" not in TEXT] == []
    assert [name for name in SKLEARN_ASKS if f"`{name}`" not in TEXT] == []
