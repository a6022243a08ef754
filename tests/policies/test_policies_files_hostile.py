"""Malicious files, made by our own generators, against the gate: every one is refused, for its own reason, and none is loaded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import hostile_files
import hostile_pickles
import pytest
from policies_world import declared

from fleet.declared_gates import Gates
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.files.contents import Content, look
from policies.files.gate import ModelFiles, Scanned
from policies.files.scan import scan
from policies.files.seen import Bounds, Described, FileSeen, ScanReport, ScanRequest
from policies.sandbox import PACKAGES

BOUNDS = Bounds(64 << 20, 1000, 100)
CORPUS = hostile_files.corpus()


def judged(*seen: FileSeen, **files: object) -> GateResult:
    model = declared().model_copy(update={"gates": Gates.model_validate({"files": files})})
    return ModelFiles().judge(model, Scanned(ScanReport(seen, Described())))


def candidate_of(folder: Path, work: Path) -> Candidate:
    return Candidate("employment", declared(), folder, None, None, None, None, work, 60)


def looked_at(name: str, data: bytes) -> FileSeen:
    return look(io.BytesIO(data), Content(name, len(data), BOUNDS))


@pytest.mark.parametrize("name", CORPUS)
def test_each_malicious_file_alone_is_refused(name: str) -> None:
    result = judged(looked_at(name, CORPUS[name]))
    assert result.outcome is GateOutcome.FAILED
    assert all(reason.startswith((f"{name}: ", "and ")) for reason in result.reasons)


def test_one_sandboxed_scan_refuses_all_of_them_and_nothing_of_them_runs(tmp_path: Path) -> None:
    for name, data in CORPUS.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = ModelFiles().gather(candidate_of(tmp_path / "model", tmp_path / "work"))
    assert found.report is not None, found.failure
    assert len(found.report.files) == len(CORPUS) >= 90
    passed = [seen.path for seen in found.report.files if judged(seen).outcome is not GateOutcome.FAILED]
    assert passed == []


def test_a_file_that_may_bring_code_still_may_not_call_what_is_dangerous() -> None:
    """No declaration opens the way for a known danger: picklescan has a veto over what fleet.yaml allows."""
    allowed = [f"{module}:{name}" for module, name in hostile_pickles.DIRECT]
    result = judged(looked_at("model.pkl", CORPUS["posix.system.pkl"]), code=True, allow=allowed)
    assert result.reasons == ("model.pkl: picklescan calls posix.system dangerous. Log the model again without it",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("posix.system.pkl", "imports posix.system, which is not on the allowlist"),
        ("o-names_through_the_memo.pkl", "imports posix.system"),
        ("o-names_overwritten_in_the_memo.pkl", "imports posix.system"),
        ("o-name_from_a_call.pkl", "a name that is put together only when it is loaded"),
        ("o-getattr_chain.pkl", "calls what another call returned"),
        ("o-EXT1.pkl", "a number that only the loading process can resolve"),
        ("o-BUILD_into_a_class.pkl", "writes attributes into something that it did not make"),
        ("o-a_constructor_s_constructor.pkl", "imports posix.system"),
        ("o-an_allowed_class_as_a_constructor_s_constructor.pkl", "with lightgbm.basic.Booster among the arguments"),
        (
            "o-an_estimator_called_with_arguments.pkl",
            "LogisticRegression, which it may only name and make",
        ),
        ("o-payload_in_the_second_pickle.pkl", "imports posix.system"),
        ("o-payload_in_the_second_pickle.pkl", "bytes behind its end"),
        ("zlib.joblib", "imports posix.system"),
        ("wrong_ending.txt", "is pickle by its content and something else by its name"),
        ("seven.7z", "is 7z. Allowed are"),
        ("torch.pt", "imports posix.system"),
        ("bad_crc.pt", "Bad CRC-32"),
        ("encrypted_flag.pt", "encrypted"),
        ("encrypted_flag_in_one_header.pt", "says two things"),
        ("two_names.pt", "says two things"),
        ("upwards.zip", "it leads upwards"),
        ("bomb.zip", "times its size, as a bomb does"),
        ("overlapping.zip", "belong to no member"),
        ("nested.zip", "archives deep"),
        ("symlink_then_write.tar", "a link or a device"),
        ("gzip_bomb.gz", "unpacks to more than"),
        ("objects.npy", "imports posix.system"),
        ("apply.yaml", "no YAML of plain values"),
        ("url/requirements.txt", "no package of the index"),
        ("methodcaller.skops", "operator.methodcaller"),
        ("bit_generator.skops", "random generator of an unknown kind"),
        ("keras.h5", "Lambda layer"),
        ("upwards.onnx", "reads weights from '../../../etc/passwd': it leads upwards"),
        ("python_operator.onnx", "calls operators of the domain 'ai.onnx.contrib'"),
        ("hidden_in_a_branch.onnx", "calls operators of the domain 'ai.onnx.contrib'"),
        ("startup.py", "is code"),
    ],
)
def test_the_refusal_names_what_is_wrong(name: str, reason: str) -> None:
    result = judged(looked_at(name, CORPUS[name]))
    assert any(reason in found for found in result.reasons), result.reasons


def test_links_and_special_files_are_refused_unread(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.json").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to("/etc")
    os.mkfifo(folder / "pipe.json")
    report = scan(ScanRequest(folder, BOUNDS))
    problems = {seen.path: seen.problems for seen in report.files}
    assert problems == {
        "link.json": ("is a link, and what it leads to may change",),
        "folder": ("is a link, and what it leads to may change",),
        "pipe.json": ("is neither a file nor a folder",),
    }
    assert judged(*report.files).outcome is GateOutcome.FAILED


def test_a_name_with_control_characters_is_refused_and_told_harmlessly(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a\x1b[31m\n.json").write_text("{}")
    (seen,) = scan(ScanRequest(folder, BOUNDS)).files
    result = judged(seen)
    assert result.outcome is GateOutcome.FAILED
    assert "\x1b" not in result.reasons[0]
    assert "\n" not in result.reasons[0]


def test_a_file_over_its_bound_and_a_file_too_many_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("x" * (10 * number))
    report = scan(ScanRequest(tmp_path, Bounds(25, 3, 100)))
    assert [len(seen.problems) for seen in report.files] == [0, 0, 0, 1]
    assert "more than 3 files" in report.files[-1].problems[0]
    (tmp_path / "0.txt").write_text("x" * 26)
    assert "more than the 25 that are allowed" in scan(ScanRequest(tmp_path, Bounds(25, 9, 100))).files[0].problems[0]


# Without skops files: reading their types imports scikit-learn, which is large by itself
ATTACKS = [name for name in CORPUS if name.endswith((".zip", ".tar", ".gz", ".npz", ".pt", ".keras"))]


def test_archives_write_nothing_and_take_less_than_256_mib(tmp_path: Path) -> None:
    """Measured in a process of its own: its peak of resident memory, and every file that it opened to write."""
    folder = tmp_path / "model"
    for name in ATTACKS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CORPUS[name])
    bomb = hostile_files.zipped({"a.txt": bytes(1 << 28)}, 8)
    (folder / "great_bomb.zip").write_bytes(bomb)
    assert (1 << 28) / len(bomb) > 1000
    program = f"""
import sys
from pathlib import Path
written = []

def note(event, given):
    if event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+"):
        written.append(given)

sys.addaudithook(note)
from policies.files.scan import scan
from policies.files.seen import Bounds, ScanRequest
report = scan(ScanRequest(Path({str(folder)!r}), Bounds(1 << 30, 1000, 100)))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(report.files), int(peak) // 1024, len(written))
"""
    done = subprocess.run([sys.executable, "-B", "-c", program], cwd=PACKAGES, capture_output=True, text=True, check=True)
    files, mebibytes, written = map(int, done.stdout.split())
    assert files == len(ATTACKS) + 1
    assert written == 0, done.stdout
    assert mebibytes < 256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
