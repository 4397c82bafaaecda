"""The files for Ray agree with its schema and with the code; KubeRay itself is not at hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from needs import needs_package

from llmserve.settings import ENV_PREFIX, Settings

needs_package("ray")

from ray.serve.schema import ServeDeploySchema  # noqa: E402

from llmserve.workers.ray.application import leave_seconds  # noqa: E402
from llmserve.workers.ray.arguments import Arguments  # noqa: E402
from llmserve.workers.ray.replica import EXIT_SECONDS  # noqa: E402

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "deploy" / "ray"
SERVICE: dict[str, Any] = yaml.safe_load((FOLDER / "rayservice.yaml").read_text())
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
CONFIGS = {
    "serve.yaml": yaml.safe_load((FOLDER / "serve.yaml").read_text()),
    "rayservice.yaml": yaml.safe_load(SERVICE["spec"]["serveConfigV2"]),
}


def groups() -> list[dict[str, Any]]:
    """The pods' specs."""
    nodes = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
    return [node["template"]["spec"] for node in nodes]


@pytest.mark.parametrize("name", CONFIGS)
def test_rays_schema_takes_the_configuration(name: str) -> None:
    config = ServeDeploySchema.model_validate(CONFIGS[name])
    (application,) = config.applications
    assert set(CONFIGS[name]) <= set(ServeDeploySchema.model_fields)
    module, _, function = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", CONFIGS)
def test_arguments_and_settings_exist(name: str) -> None:
    (application,) = CONFIGS[name]["applications"]
    arguments = Arguments.of(application["args"])
    assert arguments.autoscaling_config is not None
    for variable, value in application["runtime_env"]["env_vars"].items():
        assert variable.startswith(ENV_PREFIX)
        Settings(**{variable.removeprefix(ENV_PREFIX).lower(): value})


def test_every_pod_has_what_the_application_names() -> None:
    (application,) = CONFIGS["rayservice.yaml"]["applications"]
    variables = application["runtime_env"]["env_vars"]
    for spec in groups():
        (container,) = spec["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {variables["LLMSERVE_MODELS_DIR"], "/etc/llmserve"} <= mounted
        assert {m["name"] for m in container["volumeMounts"]} == {
            v["name"] for v in spec["volumes"]
        }
        for variable in container["env"]:
            if variable["name"].startswith(ENV_PREFIX):
                assert variable["name"].removeprefix(ENV_PREFIX).lower() in Settings.model_fields


def test_claims_and_secrets_are_those_of_the_other_manifests() -> None:
    folder = ROOT / "scripts" / "deploy" / "kubernetes"
    (pod,) = [
        document["spec"]["template"]["spec"]
        for document in [yaml.safe_load((folder / "deployment.yaml").read_text())]
    ]
    volumes = {v["name"]: v for v in pod["volumes"]}
    for spec in groups():
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert volume == volumes[volume["name"]]
    claim = yaml.safe_load((folder / "models.yaml").read_text())["metadata"]["name"]
    assert groups()[0]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim


def test_the_cluster_runs_the_version_that_is_tested() -> None:
    (pinned,) = [
        line.removeprefix("ray==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("ray==")
    ]
    assert CLUSTER["rayVersion"] == pinned


def test_a_pod_that_leaves_has_time_for_its_replicas() -> None:
    (worker,) = CLUSTER["workerGroupSpecs"]
    seconds = worker["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds > leave_seconds(Settings()) + EXIT_SECONDS


def test_a_worker_has_what_a_replica_claims() -> None:
    (worker,) = CLUSTER["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    (application,) = CONFIGS["rayservice.yaml"]["applications"]
    arguments = Arguments.of(application["args"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == arguments.num_gpus
    assert float(container["resources"]["requests"]["cpu"]) >= arguments.num_cpus
