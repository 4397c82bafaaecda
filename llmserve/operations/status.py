"""How this worker and its models are, as data."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from llmserve.fleet.membership import Membership
from llmserve.observability.recent_problems import RecentProblems
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel
from llmserve.registry.served_adapter import ServedAdapter
from llmserve.service import Service

STATM: Final = Path("/proc/self/statm")


class WorkerStatus:
    """Reads; changes nothing. `membership` is `None` where the process is alone."""

    def __init__(
        self,
        service: Service,
        registry: Registry,
        loader: Loader,
        membership: Membership | None,
        device: str,
        problems: RecentProblems,
    ) -> None:
        self._service = service
        self._registry = registry
        self._loader = loader
        self._membership = membership
        self._device = device
        self._problems = problems
        self._started_at = time.time()

    def read(self) -> dict[str, Any]:
        """Everything that `llmserve ps` and the status page show of one worker."""
        member = self._membership
        return {
            "worker": member.number if member is not None else 0,
            "pid": os.getpid(),
            "state": self._state(),
            "device": self._device,
            "uptime_seconds": round(time.time() - self._started_at, 1),
            "rss_bytes": _resident_bytes(),
            "connections": member.row.connections if member is not None else None,
            "models": [self.model(model) for model in self._registry.models],
            "recent_problems": self._problems.read(),
        }

    def model(self, model: ServedModel) -> dict[str, Any]:
        """One model."""
        running, waiting = self._service.load(model)
        background_running, background_waiting = self._service.background_load(model)
        body: dict[str, Any] = {
            "name": model.spec.name,
            "aliases": list(model.spec.aliases),
            "status": model.status.value,
            "is_on_demand": model.is_on_demand,
            "is_pinned": model.is_pinned,
            "running": running,
            "waiting": waiting,
            "background_running": background_running,
            "background_waiting": background_waiting,
            "memory_bytes": model.memory_bytes,
        }
        if model.status is ModelStatus.LOADING:
            body |= {"stage": model.progress.stage, "fraction": model.progress.fraction}
        if model.status is ModelStatus.READY:
            info = model.loaded_engine.info
            body |= {"engine": info.kind.value, "device": info.device, "dtype": info.dtype}
            if info.upstreams:
                body["upstreams"] = [asdict(upstream) for upstream in info.upstreams]
        if model.error is not None:
            body["error"] = model.error.message
        if model.adapters:
            body["adapters"] = [_adapter(adapter) for adapter in model.adapters.values()]
        return body

    def _state(self) -> str:
        service = self._service
        if service.is_draining:
            return "draining"
        if service.is_retiring:
            return "retiring"
        return "serving" if self._loader.is_settled else "loading"


def _adapter(adapter: ServedAdapter) -> dict[str, Any]:
    info = adapter.info
    body: dict[str, Any] = {
        "name": adapter.name,
        "aliases": list(adapter.names[1:]),
        "status": adapter.status.value,
        "is_on_demand": adapter.is_on_demand,
        "is_pinned": adapter.is_pinned,
        "open": adapter.open_leases,
        "memory_bytes": 0 if info is None else info.num_bytes,
        "rank": None if info is None else info.rank,
    }
    if adapter.error is not None:
        body["error"] = adapter.error.message
    return body


def _resident_bytes() -> int | None:
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return None
