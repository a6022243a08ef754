"""The MLflow adapter: model versions, aliases, tags, files and the webhook.

It speaks MLflow's REST interface and does not import mlflow. That import takes four seconds and starts MLflow's
telemetry unless the environment forbids it, for calls that answer in milliseconds and that `convoy` and every tick of
a release make; and nothing here needs to load a model. Files come through the server's artifact service, so that no
store's credentials are needed either.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from fleet.cutting import in_blocks
from fleet.errors import OperationFailed, UnknownName
from fleet.manifest import Manifest, manifest_of
from fleet.versions import ModelVersion
from registry.artifacts import download_folder
from registry.rest import QUICK_SECONDS, Answer, Nothing, Rest
from registry.runs import TrainingRun, read_run
from registry.schema import Column, ModelSchema, read_schema
from registry.trees import built_aside

__all__ = ["Column", "MlflowModels", "ModelSchema"]

PAGE = 200
WEBHOOK = "convoy"
ALIAS_SET = {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}
"""MLflow reports an alias that moves as a created one too."""


class _Tag(Answer):
    key: str
    value: str = ""


class _Version(Answer):
    name: str
    version: str
    source: str = ""
    run_id: str = ""
    tags: tuple[_Tag, ...] = ()


class _OneVersion(Answer):
    model_version: _Version


class _Versions(Answer):
    model_versions: tuple[_Version, ...] = ()
    next_page_token: str = ""


class _Alias(Answer):
    alias: str
    version: str


class _Model(Answer):
    name: str
    aliases: tuple[_Alias, ...] = ()


class _OneModel(Answer):
    registered_model: _Model


class _Models(Answer):
    registered_models: tuple[_Model, ...] = ()


class _Location(Answer):
    artifact_uri: str


class _Webhook(Answer):
    webhook_id: str
    url: str
    status: str = ""


class _Webhooks(Answer):
    webhooks: tuple[_Webhook, ...] = ()
    next_page_token: str = ""


class MlflowModels:
    """The registered models of one MLflow server; opens nothing until it is asked.

    Every verb raises Unreachable, Busy or Denied as the server does, and UnknownName, which lists the known ones, for
    a model or a version that is not registered. What reads models, versions and aliases waits QUICK_SECONDS at most.
    """

    def __init__(self, url: str) -> None:
        self._rest = Rest(url)

    def version(self, model: str, version: str) -> ModelVersion:
        """Return one version of a model, with its tags."""
        if not version.isdecimal():
            raise self._unknown_version(model, version)
        try:
            found = self._rest.get("/mlflow/model-versions/get", _OneVersion, {"name": model, "version": version}, QUICK_SECONDS)
        except UnknownName as problem:
            raise self._unknown_version(model, version) from problem
        return _noun(found.model_version)

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """Return every version of a model, the oldest first."""
        self._model(model)
        quote = '"' if "'" in model else "'"
        query: dict[str, str | int] = {"filter": f"name={quote}{model}{quote}", "max_results": PAGE}
        found: list[_Version] = []
        while True:
            page = self._rest.get("/mlflow/model-versions/search", _Versions, query, QUICK_SECONDS)
            found += page.model_versions
            if not page.next_page_token:
                return tuple(_noun(version) for version in sorted(found, key=lambda version: int(version.version)))
            query["page_token"] = page.next_page_token

    def alias(self, model: str, name: str) -> str | None:
        """Return the version that an alias names, or None when the model has no such alias."""
        # The model's own record tells a missing alias from a missing model; MLflow's alias call gives one error for both.
        return next((alias.version for alias in self._model(model).aliases if alias.alias == name), None)

    def set_alias(self, model: str, name: str, version: str) -> None:
        """Let an alias name a version and read it back; raises OperationFailed when it then names another."""
        self.version(model, version)
        self._rest.send("POST", "/mlflow/registered-models/alias", Nothing, {"name": model, "alias": name, "version": version})
        seen = self.alias(model, name)
        if seen != version:
            raise OperationFailed(
                f"alias '{name}' of '{model}'", f"was set to {version} and names {seen}", "Somebody else moves it as well."
            )

    def tag(self, model_version: ModelVersion, key: str, value: str) -> None:
        """Set a tag of a version; one of that name is replaced."""
        body = {"name": model_version.model, "version": model_version.version, "key": key, "value": value}
        self._rest.send("POST", "/mlflow/model-versions/set-tag", Nothing, body)

    def download(self, model_version: ModelVersion, to: Path) -> Manifest:
        """Make `to` the folder of the version's files as logged, and return its manifest.

        A folder that is there is replaced as a whole, once every file has arrived. Raises NotSupported when the files
        lie where the MLflow server does not serve them.
        """
        query = {"name": model_version.model, "version": model_version.version}
        location = self._rest.get("/mlflow/model-versions/get-download-uri", _Location, query)
        with built_aside(to) as aside:
            download_folder(self._rest, location.artifact_uri, aside)
            manifest = manifest_of(aside, in_blocks)
            if to.exists():
                shutil.rmtree(to)
            aside.rename(to)
        return manifest

    def training(self, model_version: ModelVersion, files: Path) -> TrainingRun | None:
        """Return the run that a version was logged by, with the environment of its downloaded files; None for one without a run."""
        return None if model_version.run_id is None else read_run(self._rest, model_version.run_id, files)

    def schema(self, folder: Path) -> ModelSchema | None:
        """Return the schema of a downloaded version, or None when it has none; nothing of the model is loaded."""
        return read_schema(folder)

    def watch(self, url: str, secret: str) -> None:
        """Ensure that exactly one webhook tells `url` about aliases, signed with `secret`."""
        wanted = {"name": WEBHOOK, "url": url, "events": [ALIAS_SET], "secret": secret, "status": "ACTIVE"}
        ours = [webhook for webhook in self._webhooks() if webhook.url == url]
        if not ours:
            self._rest.send("POST", "/mlflow/webhooks", Nothing, wanted)
            return
        # A secret cannot be read back, so it is written each time.
        self._rest.send("PATCH", f"/mlflow/webhooks/{ours[0].webhook_id}", Nothing, wanted)
        for extra in ours[1:]:
            self._rest.send("DELETE", f"/mlflow/webhooks/{extra.webhook_id}", Nothing, {})

    def watching(self, url: str) -> str:
        """Return the status of the webhook that tells `url`, such as ACTIVE; empty when there is none."""
        return next((webhook.status for webhook in self._webhooks() if webhook.url == url), "")

    def _webhooks(self) -> list[_Webhook]:
        found: list[_Webhook] = []
        query: dict[str, str | int] = {"max_results": PAGE}
        while True:
            page = self._rest.get("/mlflow/webhooks", _Webhooks, query)
            found += page.webhooks
            if not page.next_page_token:
                return found
            query["page_token"] = page.next_page_token

    def _model(self, model: str) -> _Model:
        try:
            return self._rest.get("/mlflow/registered-models/get", _OneModel, {"name": model}, QUICK_SECONDS).registered_model
        except UnknownName as problem:
            known = self._rest.get("/mlflow/registered-models/search", _Models, {"max_results": PAGE}, QUICK_SECONDS).registered_models
            raise UnknownName(f"model '{model}'", f"is not registered in MLflow ({_list(found.name for found in known)})") from problem

    def _unknown_version(self, model: str, version: str) -> UnknownName:
        known = _list(found.version for found in self.versions(model))
        return UnknownName(f"model '{model}' version {version}", f"is not registered in MLflow ({known})")


def _list(names: Iterable[str]) -> str:
    return f"known: {', '.join(names) or 'none'}"


def _noun(found: _Version) -> ModelVersion:
    tags = {tag.key: tag.value for tag in found.tags}
    return ModelVersion(found.name, found.version, found.source, found.run_id or None, tags)
