"""The Ray application: what is missing or wrong, then what Ray is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from lora import write_config
from needs import needs_package
from server import DEMO

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings
from llmserve.workers.ray_serve import app

needs_package("ray")

from ray.serve import Application  # noqa: E402

from llmserve.workers.ray.application import (  # noqa: E402
    INGRESS,
    ROUTER,
    build,
    leave_seconds,
    most_requests,
)
from llmserve.workers.ray.arguments import Arguments  # noqa: E402


def deployments(settings: Settings, **arguments: Any) -> dict[str, Any]:
    """The models' deployments and the ingress, by name."""
    built = build(settings, Arguments.of(arguments))
    ingress = built._bound_deployment
    models = [a._bound_deployment for a in ingress.init_args if isinstance(a, Application)]
    return {deployment.name: deployment for deployment in (ingress, *models)}


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("llmserve.workers.ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'llmserve\[ray\]'"):
        app({})


def test_a_model_that_does_not_exist_is_no_application() -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        build(Settings(models="nobody"), Arguments())


def test_each_model_has_a_deployment_and_settings_of_its_own(tiny_model: Path) -> None:
    settings = Settings(
        models=(str(DEMO), str(tiny_model)), default_model="tiny", pinned_models="demo"
    )
    made = deployments(settings, num_replicas=3, num_cpus=2)
    assert set(made) == {INGRESS, "demo", "tiny"}
    demo = made["demo"]
    own: Settings = demo.init_args[0]
    assert own.models == (str(DEMO),)
    assert own.default_model is None
    assert own.host != "127.0.0.1", "nobody is an operator for being on this machine"
    assert made[INGRESS].init_args[1].default == "tiny"
    assert demo.num_replicas == 3
    assert demo.ray_actor_options == {"num_cpus": 2.0, "num_gpus": 0}


def test_replicas_know_what_is_said_of_their_models_adapters(
    tiny_model: Path, tmp_path: Path
) -> None:
    for name in ("red", "blue"):
        write_config(tmp_path / "base" / "adapters" / name)
    for file in tiny_model.iterdir():
        (tmp_path / "base" / file.name).symlink_to(file)
    settings = Settings(
        models=(str(DEMO), "base:red"),
        models_dir=tmp_path,
        default_model="base:blue",
        pinned_models=("base:*", "demo"),
    )
    made = deployments(settings)
    base: Settings = made["base"].init_args[0]
    assert base.models == ("base", "base:red")
    assert base.default_model == "base:blue"
    assert base.pinned_models == ("base:*",)
    demo: Settings = made["demo"].init_args[0]
    assert (demo.default_model, demo.pinned_models) == (None, ("demo",))
    assert made[INGRESS].init_args[1].default == "base"


def test_our_queue_decides_and_a_stop_has_time_to_drain() -> None:
    settings = Settings(models=str(DEMO), max_waiting=10, drain_timeout_seconds=40)
    made = deployments(settings)
    demo, ingress = made["demo"], made[INGRESS]
    assert demo.max_ongoing_requests == most_requests(settings) > 256 + 10
    assert demo._deployment_config.graceful_shutdown_timeout_s == leave_seconds(settings) > 40
    later = ingress._deployment_config.graceful_shutdown_timeout_s
    assert later > demo._deployment_config.graceful_shutdown_timeout_s
    assert demo._deployment_config.request_router_config.request_router_class == ROUTER


@pytest.mark.parametrize(
    ("settings", "target"), [({"max_running": 7}, 7), ({}, 32), ({"device": "cuda"}, 256)]
)
def test_autoscaling_counts_what_a_replica_runs_at_most(
    settings: dict[str, Any], target: int
) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 5}
    made = deployments(Settings(models=str(DEMO), **settings), autoscaling_config=scaling)
    config = made["demo"]._deployment_config.autoscaling_config
    assert (config.target_ongoing_requests, config.max_replicas) == (target, 5)


@pytest.mark.parametrize(
    ("device", "given", "gpus"), [("cuda", {}, 1), ("cuda", {"num_gpus": 2}, 2), ("cpu", {}, 0)]
)
def test_a_replica_claims_the_gpus_that_it_needs(
    device: str, given: dict[str, int], gpus: int
) -> None:
    demo = deployments(Settings(models=str(DEMO), device=device), **given)["demo"]
    assert demo.ray_actor_options["num_gpus"] == gpus
