from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from control.cli import app
from control.policy_commands import Asking, check_files
from fleet.errors import ExitCode, FleetFileError, InputError
from policies.rego.documents import Kind, read_documents
from policies.rego.terraform import read_terraform
from support.attacks import YAML_TEXTS

ROOT = Path(__file__).parents[2]
PINNED = "registry.example.org/model@sha256:" + "0" * 64
LABELS = {"owner": "people", "model": "churn", "cost-centre": "4711"}
OWN = 'package main\n\nimport rego.v1\n\ndeny contains sprintf("%v: no", [input.kind]) if input.kind\n'


def written(folder: Path, name: str, text: Any) -> Path:
    file = folder / name
    if isinstance(text, str):
        file.write_text(text)
    elif name.endswith(".json"):
        file.write_text(json.dumps(text))
    else:
        with file.open("w") as open_file:
            YAML(typ="safe").dump_all(text, open_file) if isinstance(text, list) else YAML(typ="safe").dump(text, open_file)
    return file


def deployment(image: str = PINNED, **more: Any) -> dict[str, Any]:
    containers = [{"name": "model", "image": image, **more}]
    metadata = {"name": "churn", "labels": LABELS}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}}


def checked(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    found = CliRunner().invoke(app, ["policy", "check", *map(str, arguments), "--json"])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, json.loads(found.stdout)


def reasons(document: dict[str, Any]) -> list[str]:
    return [reason for decision in document["decisions"] for reason in decision["reasons"]]


def fleet(folder: Path, change: Any = None, name: str = "fleet.yaml") -> Path:
    document = YAML(typ="safe").load((ROOT / "examples/fleet.yaml").read_text())
    if change is not None:
        change(document)
    return written(folder, name, document)


def own_data(folder: Path, **subjects: Any) -> Path:
    return written(folder, "data.yaml", subjects)


def test_what_convoy_brings_is_allowed_with_exit_0() -> None:
    code, found = checked(ROOT / "examples/fleet.yaml")
    assert (code, found["allowed"]) == (ExitCode.DONE, True)
    (decision,) = found["decisions"]
    assert {decision[name][:7] for name in ("policy_digest", "data_digest", "input_digest")} == {"sha256:"}


TERRAFORM = """
provider "aws" {
  region = "us-east-1"
  default_tags {
    tags = { Owner = "people", model = "churn", cost_centre = "4711" }
  }
}
resource "aws_s3_bucket" "models" { bucket = "models" }
resource "aws_s3_bucket_server_side_encryption_configuration" "models" {
  bucket = aws_s3_bucket.models.id
  rule {
    apply_server_side_encryption_by_default { sse_algorithm = "aws:kms" }
  }
}
resource "google_storage_bucket" "models" {
  location = "EU"
  labels   = { owner = "people", model = "churn", cost-centre = "4711" }
  encryption { default_kms_key_name = google_kms_crypto_key.models.id }
}
resource "azurerm_storage_account" "models" {
  location                          = "westeurope"
  min_tls_version                   = "TLS1_2"
  infrastructure_encryption_enabled = true
  tags = local.tags
}
locals { tags = { owner = "people", model = "churn", cost-centre = "4711", environment = "production" } }
"""


def test_terraform_and_manifests_that_keep_the_rules_are_allowed(tmp_path: Path) -> None:
    manifests = written(tmp_path, "app.yaml", [deployment(), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}])
    terraform = written(tmp_path, "main.tf", TERRAFORM)
    code, found = checked(manifests, terraform)
    assert (reasons(found), code) == ([], ExitCode.DONE)
    assert [decision["document"] for decision in found["decisions"]] == [
        f"{manifests}, document 1",
        f"{manifests}, document 2",
        str(terraform),
    ]


BROKEN = {
    "image pin": ("app.yaml", deployment("model:1"), "Deployment churn, container model: its image model:1 is not pinned"),
    "image pin in Terraform": (
        "m.tf",
        'resource "aws_lambda_function" "m" {\n  image_uri = "model:1"\n  tags = { owner = "a", model = "b", cost-centre = "c" }\n}\n',
        "aws_lambda_function.m: its image model:1 is not pinned",
    ),
    "encryption": ("m.tf", TERRAFORM.replace("aws_s3_bucket.models.id", "aws_s3_bucket.other.id"), "aws_s3_bucket.models: nothing in this"),
    "encryption gcp": ("m.tf", TERRAFORM.replace("encryption {", "versioning {"), "google_storage_bucket.models: encryption.default_kms"),
    "encryption azure": ("m.tf", TERRAFORM.replace("TLS1_2", "TLS1_0"), "azurerm_storage_account.models: min_tls_version is TLS1_0"),
    "secret": ("s.json", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}, "Secret s: carries"),
    "secret in a variable": (
        "app.yaml",
        deployment(env=[{"name": "API_KEY", "value": "abc"}]),
        "Deployment churn: its variable API_KEY holds a secret",
    ),
    "tags": ("m.tf", TERRAFORM.replace("cost_centre", "billing"), "aws_s3_bucket.models: its tags lack cost-centre. Add them"),
    "labels": ("app.yaml", deployment() | {"metadata": {"name": "churn"}}, "Deployment churn: its labels lack cost-centre, model, owner"),
    "environment": ("m.tf", TERRAFORM.replace('"production"', '"prodution"'), "its environment prodution is not known"),
}


@pytest.mark.parametrize(("name", "text", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_a_rule_is_refused_with_exit_3_and_why(tmp_path: Path, name: str, text: Any, why: str) -> None:
    code, found = checked(written(tmp_path, name, text))
    assert code == ExitCode.REJECTED
    assert not found["allowed"]
    assert [reason for reason in reasons(found) if why in reason], reasons(found)


def test_a_place_in_another_jurisdiction_than_is_declared_is_refused(tmp_path: Path) -> None:
    file = fleet(tmp_path, lambda document: document["regions"]["europe-west4"].update(place="europe-west4", jurisdiction="DE"))
    code, found = checked(file)
    assert code == ExitCode.REJECTED
    assert reasons(found)[0].startswith("regions.europe-west4: gcp's place europe-west4 lies in NL, and the region says DE")


@pytest.mark.parametrize(
    ("subject", "changes", "why"),
    [
        ("residency", {"models": {"employment": ["NL", "US"]}}, "its region southeastasia lies in SG, and it may stand in NL, US only"),
        ("environments", {"known": {"any": {"targets": ["aws"], "providers": ["*"]}}}, "its target local has no place in any (aws)"),
        ("budgets", {"forecast_required": True}, "has no forecast for us-east-1"),
    ],
)
def test_a_fleet_is_held_against_data_of_ones_own(tmp_path: Path, subject: str, changes: dict[str, Any], why: str) -> None:
    shipped = YAML(typ="safe").load((ROOT / f"policies/data/{subject}.yaml").read_text())[subject]
    code, found = checked(fleet(tmp_path), "--data", own_data(tmp_path, **{subject: shipped | changes}))
    assert code == ExitCode.REJECTED
    assert [reason for reason in reasons(found) if why in reason], reasons(found)


def test_a_forecast_above_its_budget_is_refused_to_the_millionth(tmp_path: Path) -> None:
    def forecast(amount: str) -> Any:
        return lambda document: document["models"]["employment"].update(forecast={"us-east-1": {"per_day": amount}})

    assert checked(fleet(tmp_path, forecast("1000.000000")))[0] == ExitCode.DONE
    code, found = checked(fleet(tmp_path, forecast("1000.000001")))
    assert code == ExitCode.REJECTED
    assert "regions.us-east-1: is expected to cost 1000000001 millionths" in reasons(found)[0]


def test_a_policy_of_ones_own_is_asked_besides(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    written(tmp_path, "own/kind.rego", OWN)
    code, found = checked(written(tmp_path, "app.yaml", deployment("model:1")), "--policy", tmp_path / "own")
    assert code == ExitCode.REJECTED
    assert [(each["policy"], each["reasons"][0][:15]) for each in found["decisions"]] == [
        ("Convoy's policy", "Deployment chur"),
        ("own policy", "Deployment: no"),
    ]


def test_a_policy_that_cannot_be_evaluated_is_exit_2_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    written(tmp_path, "own/kind.rego", OWN.replace("input.kind }", "").replace("if input.kind", "if http.send({}).status_code == 200"))
    code, found = checked(written(tmp_path, "app.yaml", deployment()), "--policy", tmp_path / "own")
    assert code == ExitCode.BAD_INPUT
    assert "http.send is forbidden: it reaches the network" in found["decisions"][1]["failure"]


def test_a_fleets_own_policies_hold_for_the_models_that_declare_them(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    written(tmp_path, "policy/p.rego", 'package main\n\nimport rego.v1\n\ndeny contains concat(",", object.keys(input.models)) if true\n')

    def declare(document: dict[str, Any]) -> None:
        document["models"]["strict"] = document["models"]["employment"] | {"gates": {"policy": {"rules": "policy"}}}

    code, found = checked(fleet(tmp_path, declare))
    assert code == ExitCode.REJECTED
    assert [(each["document"].rpartition("fleet.yaml")[2], each["policy"], each["reasons"]) for each in found["decisions"]] == [
        ("", "Convoy's policy", []),
        (", model strict", "Convoy's policy", []),
        (", model strict", "own policy", ["strict"]),
    ]


UNKNOWN = {
    "another suffix": ("Dockerfile", "FROM x", "is of no kind that policies are asked about"),
    "another YAML": ("compose.yaml", {"services": {}}, "is neither a fleet nor a Kubernetes manifest (it has services)"),
    "half a manifest": ("half.yaml", {"kind": "Pod"}, "lacks apiVersion"),
    "half a fleet": ("half.yaml", {"regions": {}}, "lacks models"),
    "an empty file": ("empty.yaml", "", "holds no document"),
    "a list": ("list.json", [1], "is neither a fleet nor a Kubernetes manifest"),
    "no YAML": ("bad.yaml", "a: [", "cannot be read"),
    "a key twice": ("twice.yaml", "apiVersion: v1\nkind: Pod\nkind: Secret\n", "cannot be read"),
    "a key twice in JSON": ("twice.json", '{"apiVersion": "v1", "kind": "Pod", "kind": "Secret"}', "a key stands twice"),
    "no Terraform": ("bad.tf", 'resource "a" {', "no Terraform"),
    "no text": ("bad.tf", "\udcff", "cannot be read"),
    "aliases of aliases": (
        "bomb.yaml",
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "holds more than 200000 values",
    ),
}


@pytest.mark.parametrize(("name", "text", "why"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_file_of_no_known_kind_is_wrong_input_and_is_named(tmp_path: Path, name: str, text: Any, why: str) -> None:
    file = tmp_path / name
    if text == "\udcff":
        file.write_bytes(b"\xff\xfe\xff")
    else:
        file = written(tmp_path, name, json.dumps(text) if isinstance(text, list) else text)
    with pytest.raises(InputError, match=name) as raised:
        check_files([file], Asking(), True)
    assert why in str(raised.value)


def test_a_fleet_that_is_wrong_is_told_as_such(tmp_path: Path) -> None:
    file = fleet(tmp_path, lambda document: document["models"]["employment"].pop("owner"))
    with pytest.raises(FleetFileError, match=r"models.employment.owner \(line"):
        check_files([file], Asking(), True)


def test_policies_are_tested_with_their_coverage_and_exit_codes(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["policy", "test"])
    assert run.exit_code == ExitCode.DONE, run.output
    assert "100 % of the lines reached" in run.stdout
    written(tmp_path, "kind.rego", OWN)
    written(tmp_path, "kind_test.rego", 'package main_test\n\nimport rego.v1\nimport data.main\n\ntest_kind if main.deny["Pod"]\n')
    run = CliRunner().invoke(app, ["policy", "test", str(tmp_path), "--json"])
    assert run.exit_code == ExitCode.FAILED
    found = json.loads(run.stdout)
    assert found["tests"] == [{"file": "kind_test.rego", "name": "data.main_test.test_kind", "problem": "it did not hold"}]


def test_the_command_prints_to_people_and_exits_as_it_says(tmp_path: Path) -> None:
    file = written(tmp_path, "app.yaml", deployment("model:1"))
    found = subprocess.run(
        [sys.executable, "-m", "control.cli", "policy", "check", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == ExitCode.REJECTED
    assert "refused " in found.stdout
    assert "its image model:1 is not pinned by its digest" in found.stdout
    assert "1 decisions, 1 of them no." in found.stdout


CONFTEST = """
resource "aws_elastic_beanstalk_environment" "example" {
  name        = "test_environment"
  application = "testing"

  setting {
    namespace = "aws:autoscaling:asg"
    name      = "MinSize"
    value     = "1"
  }

  dynamic "setting" {
    for_each = data.consul_key_prefix.environment.var
    content {
      heredoc = <<-EOF
        This is a heredoc template.
        It references ${local.other.3}
        EOF
      simple = "${4 - 2}"
      cond = test3 > 2 ? 1: 0
      name      = setting.key
      value     = setting.value
    }
  }
}
provider "aws" {
  version = "=2.46.0"
  alias   = "one"
}
provider "aws" {
  version = "=2.47.0"
  alias   = "two"
}
"""


def test_terraform_has_the_shape_that_conftests_own_tests_expect() -> None:
    """After github.com/open-policy-agent/conftest, parser/hcl2/hcl2_test.go; expressions differ in their spaces alone."""
    setting = {
        "for_each": "${data.consul_key_prefix.environment.var}",
        "content": [
            {
                "cond": "${test3 > 2 ? 1 : 0}",
                "heredoc": "This is a heredoc template.\nIt references ${local.other.3}\n",
                "name": "${setting.key}",
                "simple": "${4 - 2}",
                "value": "${setting.value}",
            }
        ],
    }
    assert read_terraform(CONFTEST, "x") == {
        "resource": {
            "aws_elastic_beanstalk_environment": {
                "example": [
                    {
                        "name": "test_environment",
                        "application": "testing",
                        "setting": [{"name": "MinSize", "namespace": "aws:autoscaling:asg", "value": "1"}],
                        "dynamic": {"setting": [setting]},
                    }
                ]
            }
        },
        "provider": {"aws": [{"alias": "one", "version": "=2.46.0"}, {"alias": "two", "version": "=2.47.0"}]},
    }


def test_literals_quotes_and_labels_are_what_they_say() -> None:
    text = 'a "x" "y" {\n  s = "q\\"\\n\\u00e9"\n  t = true\n  n = null\n  f = 1.5\n  l = ["a", { "b" = c }]\n}\na "x" "z" {}\nb = 1\n'
    assert read_terraform(text, "x") == {
        "a": {"x": {"y": [{"s": 'q"\né', "t": True, "n": None, "f": 1.5, "l": ["a", {"b": "${c}"}]}], "z": [{}]}},
        "b": 1,
    }


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "secret"}}


@pytest.mark.parametrize("kind", ["List", "SecretList", "ConfigMap"])
def test_manifests_in_a_list_are_no_way_round_the_rules(tmp_path: Path, kind: str) -> None:
    code, found = checked(written(tmp_path, "all.yaml", {"apiVersion": "v1", "kind": kind, "items": [SECRET]}))
    assert code == ExitCode.REJECTED
    assert "holds several manifests in its items" in reasons(found)[0]


@pytest.mark.parametrize("text", YAML_TEXTS)
def test_a_file_that_breaks_its_reader_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode())
    with pytest.raises(InputError, match="cannot be read"):
        checked(tmp_path / "a.yaml")


def test_kinds_are_told_by_keys(tmp_path: Path) -> None:
    assert [each.kind for each in read_documents(fleet(tmp_path))] == [Kind.FLEET]
    assert [each.kind for each in read_documents(written(tmp_path, "a.json", deployment()))] == [Kind.KUBERNETES]
    assert [each.kind for each in read_documents(written(tmp_path, "a.tf", "# nothing\n"))] == [Kind.TERRAFORM]
