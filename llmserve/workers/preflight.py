"""Checks, before anything is started, that workers × models fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from llmserve.domain import ModelSpec
from llmserve.engines.adapters.stored import most_bytes
from llmserve.engines.weights.footprint import footprint
from llmserve.errors import ConfigurationError
from llmserve.machine.allowance import free_memory
from llmserve.machine.gpus import installed_gpus, visible_gpus
from llmserve.settings import Settings

PROCESS_BYTES: Final = 400 * 2**20
"""Host memory of one worker before any model: Python, torch and transformers."""

CACHE: Final = ": KV cache"
ADAPTERS: Final = ": adapters"
"""Ends of descriptions in a `_Term`."""


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Free bytes of the host and of each usable GPU; `None` where unknown."""

    host: int | None
    gpus: Mapping[int, int | None]


def check_memory(
    settings: Settings,
    specs: Sequence[ModelSpec],
    measure: Callable[[], FreeMemory] | None = None,
    *,
    on_demand: Sequence[ModelSpec] = (),
) -> None:
    """Compare what the workers will need with what is free, device by device.

    Raises:
        ConfigurationError: it does not fit, or a model on demand never will; shows the arithmetic.
    """
    _check_budget(settings, specs)
    memory = (measure or measure_memory)()
    _check_on_demand(settings, specs, on_demand, memory)
    needs = _needs(settings, specs, memory)
    for device, terms in needs.items():
        free = _free(device, memory)
        needed = sum(term.bytes for term in terms)
        arithmetic = " + ".join(str(term) for term in terms)
        if free is None:
            logger.info("memory preflight: {} needs about {} ({}); cannot measure what is free",
                        device, _gib(needed), arithmetic)  # fmt: skip
        elif needed > free:
            raise ConfigurationError(
                f"{settings.workers} workers do not fit on {device}: {arithmetic} = "
                f"{_gib(needed)}, and {_gib(free)} are free; lower `workers`, `max_running` "
                "or `kv_cache_bytes`, serve fewer or smaller models, add `devices`, or set "
                "memory_preflight = false"
            )
        else:
            logger.info("memory preflight: {}: {} = {} of {} free",
                        device, arithmetic, _gib(needed), _gib(free))  # fmt: skip


def _check_budget(settings: Settings, specs: Sequence[ModelSpec]) -> None:
    budget = settings.models_memory_bytes
    sizes = {
        spec.name: footprint(spec, settings.max_running, settings.kv_cache_bytes) for spec in specs
    }
    known = {name: size for name, size in sizes.items() if size is not None}
    if budget is None or sum(size.weights for size in known.values()) <= budget:
        return
    arithmetic = " + ".join(f"{_gib(size.weights)} ({name})" for name, size in known.items())
    raise ConfigurationError(
        f"the weights of the models do not fit into models_memory_bytes, which is {_gib(budget)}: "
        f"{arithmetic}; raise it, or move models to models_on_demand"
    )


def _check_on_demand(
    settings: Settings,
    specs: Sequence[ModelSpec],
    on_demand: Sequence[ModelSpec],
    memory: FreeMemory,
) -> None:
    """Check that the weights of each model fit beside those that stay loaded.

    A model that was named must fit; in a whole folder (`*`), some may be for other machines.
    """
    pinned = set(settings.pinned_models)
    is_evicting = settings.models_memory_bytes is not None
    staying = [s for s in specs if not is_evicting or pinned.intersection((s.name, *s.aliases))]
    for spec in on_demand:
        needs = _needs(settings, [*staying, spec], memory)
        for device, terms in needs.items():
            free = _free(device, memory)
            weights = [term for term in terms if not term.what.endswith((CACHE, ADAPTERS))]
            needed = sum(term.bytes for term in weights)
            if free is None or needed <= free:
                continue
            problem = (
                f"model {spec.name!r}, on demand, never fits on {device}: "
                f"{' + '.join(map(str, weights))} = {_gib(needed)}, and {_gib(free)} are free"
            )
            if spec.argument in settings.models_on_demand:
                raise ConfigurationError(
                    f"{problem}; take it out of models_on_demand, lower `workers`, or set "
                    "memory_preflight = false"
                )
            logger.warning("memory preflight: {}", problem)


def measure_memory() -> FreeMemory:
    """The memory that this process and its workers may use now."""
    return FreeMemory(free_memory(), visible_gpus(installed_gpus(), os.environ))


def worker_bytes(settings: Settings, specs: Sequence[ModelSpec]) -> int:
    """The memory that one worker needs on one device, its process included."""
    sizes = (footprint(spec, settings.max_running, settings.kv_cache_bytes) for spec in specs)
    adapters = sum(most_bytes(spec.adapters, settings.max_adapters) for spec in specs)
    return PROCESS_BYTES + adapters + sum(size.total for size in sizes if size is not None)


def is_on_gpu(settings: Settings, memory: FreeMemory) -> bool:
    """Whether any worker's device is a GPU."""
    devices = settings.devices or (settings.device,)
    return any(d.startswith("cuda") or (d == "auto" and memory.gpus) for d in devices)


@dataclass(frozen=True, slots=True)
class _Term:
    """One term of the arithmetic: workers × bytes each."""

    workers: int
    what: str
    each: int

    @property
    def bytes(self) -> int:
        return self.workers * self.each

    def __str__(self) -> str:
        return f"{self.workers} × {_gib(self.each)} ({self.what})"


def _needs(
    settings: Settings, specs: Sequence[ModelSpec], memory: FreeMemory
) -> dict[str, list[_Term]]:
    needs: dict[str, list[_Term]] = {
        "the host": [_Term(settings.workers, "worker process", PROCESS_BYTES)]
    }
    for device, workers in _spread(settings, memory).items():
        for spec in specs:
            if spec.remote is not None:
                continue
            size = footprint(spec, settings.max_running, settings.kv_cache_bytes)
            if size is None:
                logger.info("memory preflight: {} is not downloaded yet, not counted", spec.name)
                continue
            place = spec.device if spec.device not in ("auto", settings.device) else device
            place = _resolved(place, memory)
            terms = needs.setdefault(place, [])
            terms.append(_Term(workers, f"{spec.name}: weights", size.weights))
            terms.append(_Term(workers, f"{spec.name}{CACHE}", size.cache))
            adapters = most_bytes(spec.adapters, settings.max_adapters)
            if adapters:
                terms.append(_Term(workers, f"{spec.name}{ADAPTERS}", adapters))
    return needs


def _spread(settings: Settings, memory: FreeMemory) -> dict[str, int]:
    """How many workers each device gets."""
    devices = settings.devices or (settings.device,)
    counts: dict[str, int] = {}
    for number in range(settings.workers):
        device = _resolved(devices[number % len(devices)], memory)
        counts[device] = counts.get(device, 0) + 1
    return counts


def _resolved(device: str, memory: FreeMemory) -> str:
    if device == "cpu" or (device == "auto" and not memory.gpus):
        return "the host"
    if device == "auto":
        return "all GPUs"
    return "cuda:0" if device == "cuda" else device


def _free(device: str, memory: FreeMemory) -> int | None:
    if device == "the host":
        return memory.host
    if device == "all GPUs":
        known = [free for free in memory.gpus.values() if free is not None]
        return sum(known) if len(known) == len(memory.gpus) else None
    return memory.gpus.get(int(device.partition(":")[2]))


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
