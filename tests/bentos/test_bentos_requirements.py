from importlib import metadata

import pytest

from bentos.requirements import locked
from fleet.errors import InputError


def test_what_a_requirement_needs_is_locked_with_it():
    lines = dict(line.split("==") for line in locked(["scikit-learn"]))

    assert lines["scikit-learn"] == metadata.version("scikit-learn")
    assert {"scipy", "joblib", "numpy"} <= set(lines)
    assert list(lines) == sorted(lines)


def test_comments_and_blank_lines_are_skipped():
    assert locked(["", "# numpy==0", "numpy  # the installed one"]) == locked([])


@pytest.mark.parametrize("line", ["--extra-index-url https://example.org/simple", "-r other.txt", "./local.whl"])
def test_what_would_ask_an_index_or_a_file_is_refused(line):
    with pytest.raises(InputError, match="not a plain requirement"):
        locked([line])


def test_what_is_not_installed_is_refused_by_name():
    with pytest.raises(InputError, match=r"no-such-package-of-convoy.*is not installed"):
        locked(["no-such-package-of-convoy"])
