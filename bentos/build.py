"""Builds the Bento of a model version, so that two builds of the same files agree byte for byte.

BentoML makes the Bento in a process and a home of its own; the model's files are laid in afterwards and never read as
a model. What BentoML takes from the clock, the machine or chance is then replaced (`bentos/normal.py`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bentos.inputs import BuildOptions
from bentos.needs import requirements_of
from bentos.normal import drop_unhashed, normalise
from bentos.requirements import VARIANT_NEEDS, locked, pins_of
from fleet.canonical import short
from fleet.cutting import in_blocks
from fleet.errors import InputError, OperationFailed
from fleet.manifest import Manifest, manifest_of
from fleet.settings import inherited_environment

BUILD_SECONDS = 300
MODEL_FOLDER, VARIANT_FOLDER = "src/model", "src/variant"
"""Where a revision has its model's files, and those of the variant that it serves in their place."""
RESOURCES, OPTIMISE = "resources.json", "optimise.json"
"""What a service asks for and what it shall do with its model: `convoy_service/bento.py` and `device.py` read it."""
SERVICE = Path(__file__).parent / "service"
ENTRY = '"""What BentoML imports."""\n\nfrom convoy_service.bento import Scoring\n\n__all__ = ["Scoring"]\n'
REMEDY = "Read the output above; nothing was packaged."
PLAIN = BuildOptions()


def build(model_folder: Path, name: str, version: str, to: Path, options: BuildOptions = PLAIN) -> Manifest:
    """Make the Bento of a downloaded MLflow model in the folder `to` and return its manifest.

    The same files, name, version and installed packages give the same digest, whenever and wherever they are built.
    `bentoml serve TO` accepts the folder. Raises InputError for a folder that is no MLflow model, a `to` that is not
    empty or a requirement that is not installed; Refused for options that are not what they must be; IntegrityError for a
    link in the model; OperationFailed when BentoML fails.
    """
    options.check()
    model = manifest_of(model_folder, in_blocks)
    if not (model_folder / "MLmodel").is_file():
        raise InputError(str(model_folder), "is not an MLflow model: it has no file MLmodel", "Download the model version again.")
    if to.exists() and any(to.iterdir()):
        raise InputError(str(to), "is not empty", "Give a new folder.")
    needed = needed_by(model_folder, options.variant is not None)
    pins = pins_of(needed, options.pins, gpu=options.gpu)
    requirements = locked(needed, pins, gpu=options.gpu)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convoy-bento-") as scratch:
        context = _context(Path(scratch) / "context", name, requirements, options)
        bento = _built(context, Path(scratch) / "home", short(model.digest))
        staged = Path(scratch) / "staged"
        shutil.copytree(bento, staged)
        _lay(model_folder, model, staged / MODEL_FOLDER)
        if options.variant is not None:
            _lay(options.variant, manifest_of(options.variant), staged / VARIANT_FOLDER)
        (staged / "src" / "revision.json").write_text(json.dumps({"model": name, "version": version}) + "\n", encoding="utf-8")
        if pins is not None:
            drop_unhashed(staged)
        normalise(staged, Path(scratch))
        # It may be another file system: copied beside, so that nobody meets half a Bento
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as aside:
            shutil.copytree(staged, Path(aside) / "bento")
            if to.exists():
                to.rmdir()
            (Path(aside) / "bento").rename(to)
    return manifest_of(to)


def needed_by(model_folder: Path, with_variant: bool) -> tuple[str, ...]:
    """Return what a model's Bento needs besides the service: what the model names, and what runs a variant of it."""
    return (*requirements_of(model_folder), *(VARIANT_NEEDS if with_variant else ()))


def bento_name(model: str) -> str:
    """Return a model's name as BentoML allows it: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"


def _context(folder: Path, model: str, requirements: tuple[str, ...], options: BuildOptions) -> Path:
    """Write what BentoML builds from: our service, its entry and the build file."""
    shutil.copytree(SERVICE, folder / "convoy_service", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "service.py").write_text(ENTRY, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    told = {RESOURCES: dict(options.resources), OPTIMISE: {"compile": True} if options.compile else {}}
    told = {name: said for name, said in told.items() if said}
    for name, said in told.items():
        (folder / name).write_text(json.dumps(said, sort_keys=True) + "\n", encoding="utf-8")
    document = {
        "service": "service:Scoring",
        "name": bento_name(model),
        "description": f"# {model}\n\nScores rows with one MLflow model over the Open Inference Protocol v2. Packaged by Convoy.\n",
        "labels": {"convoy.model": model},
        "include": ["*.py", "convoy_service/*.py", "requirements.txt", *told],
        "python": {"requirements_txt": "./requirements.txt", "lock_packages": False},
    }
    if docker := options.docker():
        document["docker"] = docker
    # JSON is YAML too
    (folder / "bentofile.yaml").write_text(json.dumps(document, indent=2), encoding="utf-8")
    return folder


def _built(context: Path, home: Path, version: str) -> Path:
    """Run `bentoml build` and return the Bento's folder."""
    environment = inherited_environment() | {
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "bentoml", "build", "--version", version, "--output", "tag", str(context)]
    try:
        done = subprocess.run(
            command,
            cwd=context,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as problem:
        raise OperationFailed("bentoml build", f"did not end within {BUILD_SECONDS} s", REMEDY) from problem
    folder = home / "bentos"
    found = sorted(folder.glob(f"*/{version}")) if folder.is_dir() else []
    if done.returncode or len(found) != 1:
        tail = (done.stderr or done.stdout).strip()[-2000:]
        raise OperationFailed("bentoml build", f"ended with status {done.returncode}: {tail}", REMEDY)
    return found[0]


def _lay(folder: Path, manifest: Manifest, to: Path) -> None:
    """Copy the files of a folder that its manifest names."""
    for entry in manifest.entries:
        target = to / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / entry.path, target)
