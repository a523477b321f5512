"""The compose file and the image's recipe: what can be told of them without running a container."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deployments.server import CLIENT_SETTINGS, SERVER_SETTINGS
from deployments.worker import WORKER_SETTINGS

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ROOT / "deployments" / "compose.yaml"
DOCKERFILE = ROOT / "deployments" / "Dockerfile"

TEXTS = {"type": "array", "items": {"type": "string"}}
SERVICE = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "command": TEXTS,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "ports": TEXTS,
        "volumes": TEXTS,
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["condition"],
                "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "required": ["test"],
            "additionalProperties": False,
            "properties": {
                "test": TEXTS,
                "interval": {"type": "string"},
                "timeout": {"type": "string"},
                "retries": {"type": "integer"},
            },
        },
    },
}
"""What we use of https://github.com/compose-spec/compose-spec."""


@pytest.fixture
def composed() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())  # type: ignore[no-any-return]


def test_every_service_is_as_the_compose_specification_wants_it(composed: dict[str, Any]) -> None:
    assert set(composed) == {"name", "x-image", "services", "volumes"}
    for service in composed["services"].values():
        jsonschema.validate(service, SERVICE)
        assert set(service.get("depends_on", ())) <= set(composed["services"])
        mounted = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert mounted <= set(composed["volumes"])


def test_what_waits_for_a_healthy_service_waits_for_one_that_is_checked(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        for name in service.get("depends_on", ()):
            assert "healthcheck" in composed["services"][name]


def test_server_and_workers_have_the_settings_of_the_local_ones(composed: dict[str, Any]) -> None:
    services = composed["services"]
    assert SERVER_SETTINGS.items() <= services["server"]["environment"].items()
    assert CLIENT_SETTINGS.items() <= services["deploy"]["environment"].items()
    assert WORKER_SETTINGS.items() <= services["worker"]["environment"].items()


def test_no_secret_has_a_value_in_the_file(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|AUTH_STRING|ENCRYPTION_KEY", name):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]*)?\}", value), name


def test_the_image_copies_what_is_there_and_gives_its_user_the_folders_that_are_mounted(
    composed: dict[str, Any],
) -> None:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    steps = [line.split() for line in lines if line and not line.startswith("#")]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV"}
    assert {step[0] for step in steps} <= known
    for copy in (step for step in steps if step[0] == "COPY"):
        assert all((ROOT / source).exists() for source in copy[1:-1]), copy
    made = next(step for step in steps if "--directory" in step)
    mounted = {volume.split(":")[1] for volume in composed["services"]["worker"]["volumes"]}
    assert mounted <= set(made)
