"""What the gates of dependencies, licences and privacy are told of a candidate, and what its Bento is built with."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from bentos.inputs import BuildOptions
from bentos.needs import needs_of
from bentos.requirements import VARIANT_NEEDS
from fleet.components import Needs
from fleet.declared import Model
from fleet.pins import read_pins
from fleet.settings import Settings
from policies.waived import Waivers, waivers_in
from policies.waivers import Subject, Trust


def advisories_of(settings: Settings) -> Path | None:
    """Return where the site's advisories lie, None where none are set."""
    return None if settings.advisories is None else settings.advisories.expanduser().absolute()


def needs_for(declared: Model, settings: Settings, folder: Path) -> Needs | None:
    """Return what a downloaded model needs, None where no gate asks for it."""
    asked = declared.gates.dependencies or declared.gates.licences or settings.advisories
    if asked and declared.image.container is not None:
        # Only a site's own advisories ask: what fleet.yaml says of packages excludes a container
        return Needs((), ("its container brings packages of its own, which are not looked up in the site's advisories",))
    served = declared.optimise is not None and declared.optimise.serve is not None
    gpu = declared.image.resources.gpu is not None
    return needs_of(folder, VARIANT_NEEDS if served else (), gpu=gpu) if asked else None


def waivers_for(declared: Model, fleet_folder: Path, subject: Subject, now: datetime) -> Waivers:
    """Return what two people waive for a version now; nothing where fleet.yaml says of nobody that they may."""
    rules = declared.gates.waivers
    if rules is None:
        return Waivers()
    return waivers_in(fleet_folder / rules.folder, trust_of(declared), subject, now)


def trust_of(declared: Model) -> Trust:
    """Return whose signatures count under a model's waivers; nobody's where it declares none."""
    rules = declared.gates.waivers
    return Trust({}, 0) if rules is None else Trust(rules.keys, rules.longest_days)


def build_options(declared: Model, fleet_folder: Path) -> BuildOptions:
    """Return what a model's Bento is built with beside the model; raises InputError for a lock that is none."""
    dependencies = declared.gates.dependencies
    lock = dependencies.lock if dependencies else None
    pins = None if lock is None else read_pins(fleet_folder / lock)
    image = declared.image
    compiles = declared.optimise is not None and declared.optimise.compile
    return BuildOptions(image.base_image, image.system_packages, pins, image.resources.asked(), compile=compiles)
