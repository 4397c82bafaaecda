"""Which settings mean nothing on Ray: what would silently not work is refused, the rest is told."""

from __future__ import annotations

from typing import Final

from loguru import logger

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings

REFUSED: Final = {
    "workers": "set `num_replicas` or `autoscaling_config` in the application's `args`",
    "devices": "Ray gives each replica its GPU; set `num_gpus` in the application's `args`",
    "models_on_demand": "each model is a deployment; list it in `models`",
    "idle_unload_seconds": "let `autoscaling_config` remove replicas",
    "responses_store": "a replica's file is out of the others' reach",
    "stream_resume_seconds": "a stream cannot be found again among replicas",
    "grpc_port": "Ray's proxies speak HTTP to replicas",
    "jobs_dir": "replicas come and go, and a batch's lines are for the workers of a box",
    "run_dir": "replicas meet through Ray",
    "reload": "it is for development on one machine",
    "root_path": "set `route_prefix` in Ray's config file",
}
"""What to do instead."""
WITHOUT_EFFECT: Final = (
    *("grpc_max_streams", "grpc_connection_seconds"),
    *("host", "port", "address_file", "max_connections", "max_header_bytes"),
    *("header_timeout_seconds", "send_timeout_seconds", "idle_connection_seconds"),
    *("worker_start_seconds", "worker_timeout_seconds", "memory_preflight"),
)
"""Ray's proxies hold the connections, and Ray starts and replaces the replicas."""


def check_applicable(settings: Settings) -> None:
    """Refuse the settings that cannot be kept on Ray, and tell which ones have no effect.

    Raises:
        ConfigurationError: names the setting, and what takes its place.
    """
    defaults = Settings()
    for name, instead in REFUSED.items():
        if getattr(settings, name) != getattr(defaults, name):
            raise ConfigurationError(f"`{name}` cannot be kept on Ray Serve: {instead}")
    if settings.device.startswith("cuda:") and settings.device != "cuda:0":
        raise ConfigurationError(
            f"`device = {settings.device!r}` cannot be kept on Ray Serve: each replica sees only "
            "the GPU that Ray gives it; set `device` to cuda"
        )
    idle = [n for n in WITHOUT_EFFECT if getattr(settings, n) != getattr(defaults, n)]
    if idle:
        logger.warning("without effect on Ray Serve, which does this in its own way: {}",
                       ", ".join(idle))  # fmt: skip
    if settings.keys_file is not None:
        logger.warning("limits of keys hold in each replica by itself: with N replicas, a key may "
                       "use up to N times its limit")  # fmt: skip
