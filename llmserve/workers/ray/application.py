"""From settings to a Ray Serve application: one deployment per model, and the ingress."""

from __future__ import annotations

from typing import Any, Final

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.registry.catalog import PATH_PREFIXES, Catalog
from llmserve.registry.references import every_adapter
from llmserve.service.service import FAREWELL_SECONDS
from llmserve.settings import Settings
from llmserve.workers.ray.applicable import check_applicable
from llmserve.workers.ray.arguments import Arguments
from llmserve.workers.ray.deployments import Deployments
from llmserve.workers.ray.ingress import Ingress
from llmserve.workers.ray.replica import EXIT_SECONDS, Replica

INGRESS: Final = "llmserve-ingress"
ROUTER: Final = "llmserve.workers.ray.router.PrefixRouter"
ON_CPU: Final = 32
ON_GPU: Final = 256
"""How many requests an engine runs at most, where no setting says it."""
OTHER_REQUESTS: Final = 1024
"""Of one replica: probes, operators, WebSockets that are idle."""
MOST_AT_INGRESS: Final = 2**16
ALL_INTERFACES: Final = "0.0.0.0"  # noqa: S104  # not listened on: see `_of_replica`


def build(settings: Settings, arguments: Arguments) -> Application:
    """The application for these settings.

    Raises:
        ConfigurationError: a model does not exist, or a setting cannot be kept on Ray.
    """
    check_applicable(settings)
    specs = Catalog.from_settings(settings).resolve_all(settings.models)
    if INGRESS in {spec.name for spec in specs}:
        raise ConfigurationError(f"a model on Ray cannot be called {INGRESS!r}; rename its folder")
    deployments = Deployments.of(specs, settings.default_model)
    models = [
        serve.deployment(Replica)
        .options(**_options(settings, arguments, spec))
        .bind(_of_replica(settings, spec), deployments)
        for spec in specs
    ]
    ingress = serve.deployment(Ingress).options(
        name=INGRESS,
        num_replicas=arguments.ingress_replicas,
        max_ongoing_requests=MOST_AT_INGRESS,
        ray_actor_options={"num_cpus": 0},
        # Longer than the replicas': it tells their clients how it ended.
        graceful_shutdown_timeout_s=leave_seconds(settings) + EXIT_SECONDS,
    )
    return ingress.bind(settings, deployments, *models)


def leave_seconds(settings: Settings) -> float:
    """How long Ray waits for a replica to drain and to let go of its model."""
    return settings.drain_timeout_seconds + FAREWELL_SECONDS + EXIT_SECONDS


def most_requests(settings: Settings) -> int:
    """More than our own gate lets in: who waits, waits in our queue, which is fair and bounded."""
    running = settings.max_running if settings.max_running is not None else ON_GPU
    return running + settings.max_waiting + OTHER_REQUESTS


def _options(settings: Settings, arguments: Arguments, spec: ModelSpec) -> dict[str, Any]:
    gpus = _gpus(settings, arguments)
    options: dict[str, Any] = {
        "name": spec.name,
        "max_ongoing_requests": most_requests(settings),
        "graceful_shutdown_timeout_s": leave_seconds(settings),
        "ray_actor_options": {"num_cpus": arguments.num_cpus, "num_gpus": gpus},
        "request_router_config": RequestRouterConfig(request_router_class=ROUTER),
    }
    if arguments.autoscaling_config is None:
        return options | {"num_replicas": arguments.num_replicas}
    engines_own = ON_GPU if gpus else ON_CPU
    running = settings.max_running if settings.max_running is not None else engines_own
    target = {"target_ongoing_requests": running}
    return options | {"autoscaling_config": target | arguments.autoscaling_config}


def _gpus(settings: Settings, arguments: Arguments) -> int:
    """One where the device is a GPU, or where the cluster has any and the device is not said."""
    if arguments.num_gpus is not None:
        return arguments.num_gpus
    if settings.device != "auto":
        return int(settings.device.startswith("cuda"))
    return int(ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0)


def _of_replica(settings: Settings, spec: ModelSpec) -> Settings:
    """The settings of one model's replicas, which may run in another folder. Ray's proxies may
    listen anywhere, so that nobody is an operator for being on this machine: `/admin` needs a key.
    """
    argument = spec.argument or spec.name
    if argument.startswith(PATH_PREFIXES) and spec.path is not None:
        argument = str(spec.path.absolute())
    initial = (f"{argument}:{one.name}" for one in spec.adapters if one.is_initial)
    names = {*spec.all_names, *every_adapter(spec.names)}
    default = settings.default_model
    return settings.model_copy(
        update={
            "models": (argument, *initial),
            "models_dir": settings.models_dir.absolute(),
            "default_model": default if default in names else None,
            "pinned_models": tuple(name for name in settings.pinned_models if name in names),
            "host": ALL_INTERFACES,
        }
    )
