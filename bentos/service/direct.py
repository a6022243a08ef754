"""Which way a model's predictions go: by its own library, where its MLmodel file allows that, or by MLflow, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import ModelUnusable, told
from .flavors import LOADERS, Flavor, NotDirect, kept_out
from .modules import ON_CPU
from .prediction import Direct
from .schema import stackable
from .signature import Signature, compiled, declares_params


@dataclass(frozen=True, slots=True)
class Plan:
    """A model that may be asked directly: through which library, and what its signature says."""

    library: str
    loader: str
    flavor: Flavor
    signature: Signature
    example: str | None

    def load(self, device: str = ON_CPU, compiled: bool = False) -> Direct:
        """Load the model by its library; raises NotDirect where that cannot be. It runs the model's own code.

        PyTorch's go to the device, and are compiled where that is asked for.
        """
        _, loader = LOADERS[self.loader]
        try:
            with kept_out():
                ask = loader(replace(self.flavor, device=device, compiled=compiled))
        except NotDirect:
            raise
        except BaseException as problem:  # loading runs the model's code; MLflow is asked next and says what is wrong
            raise NotDirect(f"{self.library} did not load it ({told(problem)})") from problem
        # What waits for a GPU, or for another thread, does not answer in the event loop
        path = f"{self.library}, compiled" if compiled else self.library
        return Direct(path, ask, light=device == ON_CPU and not compiled)


def plan(folder: Path) -> Plan:
    """Return how a model could be asked directly; raises NotDirect with the reason where only MLflow can.

    Raises ModelUnusable for a folder whose MLmodel file or signature cannot be read.
    """
    document = read_document(folder)
    flavors = document.get("flavors")
    flavors = flavors if isinstance(flavors, Mapping) else {}
    pyfunc = flavors.get("python_function")
    if not isinstance(pyfunc, Mapping):
        raise NotDirect("its MLmodel file names no python_function")
    loader = str(pyfunc.get("loader_module"))
    if loader not in LOADERS:
        raise NotDirect(f"its loader is {loader}")
    library, _ = LOADERS[loader]
    entries = flavors.get(library)
    if not isinstance(entries, Mapping):
        raise NotDirect(f"its MLmodel file has no flavour {library}")
    if pyfunc.get("code") or entries.get("code"):
        raise NotDirect("it brings code of its own")
    signature = compiled(document.get("signature"))
    if declares_params(document.get("signature")):
        raise NotDirect("its signature declares parameters")
    if why := stackable(signature):
        raise NotDirect(why)
    example = document.get("saved_input_example_info")
    file = str(example["artifact_path"]) if isinstance(example, Mapping) and example.get("artifact_path") else None
    whole = all(field.dtype.kind in "iu" for field in signature.inputs)
    flavor = Flavor(folder, entries, str(pyfunc.get("predict_fn", "predict")), signature.frame, whole)
    return Plan(library, loader, flavor, signature, file)


def read_document(folder: Path) -> dict[str, Any]:
    """Return a model's MLmodel file; raises ModelUnusable where it is unreadable."""
    import yaml

    try:
        document = yaml.load((folder / "MLmodel").read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  a safe one
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as problem:
        raise ModelUnusable(f"the MLmodel file cannot be read ({told(problem)})") from problem
    if not isinstance(document, dict):
        raise ModelUnusable("the MLmodel file is no mapping")
    return document
