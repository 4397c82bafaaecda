"""The deployment files agree with the code; a Docker engine is not at hand to run them."""

from __future__ import annotations

from pathlib import Path

import yaml

from llmserve.api.draining import EXIT_SECONDS
from llmserve.service.service import FAREWELL_SECONDS
from llmserve.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_builds_a_target_of_a_dockerfile_that_exists() -> None:
    build = COMPOSE["services"]["llmserve"]["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text()
    assert f" AS {build['target']}\n" in dockerfile
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    assert all((ROOT / name).exists() for names in copied for name in names)


def test_compose_sets_settings_that_exist() -> None:
    for name, value in COMPOSE["services"]["llmserve"]["environment"].items():
        field = name.removeprefix(ENV_PREFIX).lower()
        assert getattr(Settings(**{field: value}), field) == value


def test_compose_waits_longer_than_a_shutdown_takes() -> None:
    grace = int(COMPOSE["services"]["llmserve"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings().drain_timeout_seconds + FAREWELL_SECONDS + EXIT_SECONDS
