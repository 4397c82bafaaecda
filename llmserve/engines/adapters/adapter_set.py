"""The adapters of one loaded model: which are there, who uses them, how they come and go. Knows
nothing of how they are computed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from llmserve.domain import AdapterInfo, AdapterSpec, Failed, GenerationRequest
from llmserve.engines.adapters.pace import Pace
from llmserve.engines.adapters.segment import NO_ADAPTER
from llmserve.engines.own_thread import on_own_thread
from llmserve.errors import InvalidRequest, LLMServeError, ModelUnloaded, OutOfMemory

if TYPE_CHECKING:
    from llmserve.engines.adapters.host import AdapterHost
    from llmserve.engines.job import Job

_ids: Final = itertools.count(NO_ADAPTER + 1)
"""Of this process: one that is loaded anew is another one."""


@dataclass(slots=True, eq=False)
class _Resident:
    info: AdapterInfo
    id: int
    num_users: int = 0
    is_unused: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.is_unused.set()


class AdapterSet:
    """Owned by the event loop."""

    def __init__(self, model: str, base: str, *, most: int, max_rank: int) -> None:
        """`base`: the model's own name, as adapters may have it in their configs."""
        self._model = model
        self._base = base
        self._most = most
        self._max_rank = max_rank
        self._residents: dict[str, _Resident] = {}
        self._coming: set[str] = set()
        self._is_closed = False

    @property
    def infos(self) -> tuple[AdapterInfo, ...]:
        """Those that requests may ask for."""
        return tuple(each.info for each in self._residents.values() if each.leaving is None)

    @property
    def num_bytes(self) -> int:
        """Of all that are there."""
        return sum(each.info.num_bytes for each in self._residents.values())

    def check(self, requests: Sequence[GenerationRequest]) -> None:
        """
        Raises:
            InvalidRequest: one asks for an adapter that is not loaded.
        """
        for name in {request.adapter for request in requests}:
            if name is None or self._find(name) is not None:
                continue
            there = ", ".join(repr(info.name) for info in self.infos) or "none"
            raise InvalidRequest(
                f"model {self._model!r} has no adapter {name!r} loaded; loaded are: {there}",
                param="model",
            )

    def close(self) -> None:
        """The model goes: what is on its way is not taken any more."""
        self._is_closed = True

    def begin(self, job: Job) -> bool:
        """Take the job's adapter for it, until `end`. A job whose adapter was unloaded meanwhile
        has failed."""
        name = job.token_task.adapter
        if name is None:
            return True
        resident = self._find(name)
        if resident is None:
            error = ModelUnloaded(
                f"adapter {name!r} of model {self._model!r} was unloaded meanwhile", param="model"
            )
            job.mailbox.post(Failed(error, job.usage))
            asyncio.get_running_loop().call_soon(job.on_done)
            return False
        job.adapter_id = resident.id
        resident.num_users += 1
        resident.is_unused.clear()
        return True

    def end(self, job: Job) -> None:
        """The job is over, or was not begun after all."""
        for resident in self._residents.values():
            if resident.id == job.adapter_id:
                resident.num_users -= 1
                if not resident.num_users:
                    resident.is_unused.set()

    async def load(self, spec: AdapterSpec, folder: Path, host: AdapterHost) -> AdapterInfo:
        """Read, check and attach it.

        Raises:
            InvalidRequest: it is there already, or cannot be served; says why.
            OutOfMemory: there is no room for one more.
            ModelUnloaded: the model was closed meanwhile.
        """
        if spec.name in self._residents or spec.name in self._coming:
            raise InvalidRequest(
                f"model {self._model!r} has an adapter {spec.name!r} already; unload it first"
            )
        if len(self._residents) + len(self._coming) >= self._most:
            raise OutOfMemory(
                f"model {self._model!r} has {self._most} adapters, which is max_adapters; unload "
                "one or raise that"
            )
        self._coming.add(spec.name)
        try:
            resident = await self._load(spec, folder, host)
        finally:
            self._coming.discard(spec.name)
        self._residents[spec.name] = resident
        logger.info(
            "model {}: adapter {}: rank {}, {:,} bytes, {} modules",
            self._model, spec.name, resident.info.rank, resident.info.num_bytes,
            len(resident.info.modules),
        )  # fmt: skip
        return resident.info

    async def unload(self, name: str, host: AdapterHost) -> None:
        """Give it to no new job, wait for those that have it, and let go of it."""
        resident = self._residents.get(name)
        if resident is None:
            return
        if resident.leaving is None:
            resident.leaving = asyncio.create_task(self._leave(resident, host))
        # Whoever waits may leave; what has begun goes on.
        await asyncio.shield(resident.leaving)

    async def _load(self, spec: AdapterSpec, folder: Path, host: AdapterHost) -> _Resident:
        info, prepared = await on_own_thread(
            f"adapter-{self._model}",
            lambda: self._prepare(spec, folder, host),
            _compute_alone,
        )
        resident = _Resident(info, next(_ids))
        try:
            await host.attach(resident.id, prepared)
            if self._is_closed:
                raise ModelUnloaded(f"model {self._model!r} was unloaded meanwhile")
        except BaseException:
            with contextlib.suppress(LLMServeError):
                await host.detach(resident.id)
            raise
        return resident

    def _prepare(
        self, spec: AdapterSpec, folder: Path, host: AdapterHost
    ) -> tuple[AdapterInfo, Any]:
        """On a thread of its own."""
        import torch

        from llmserve.engines.adapters.adapter import read_adapter
        from llmserve.engines.adapters.unservable import Unservable

        pause = Pace()
        try:
            adapter = read_adapter(folder, host.layers(), self._max_rank, pause)
        except Unservable as reason:
            raise InvalidRequest(f"adapter {spec.name!r} cannot be served: {reason}") from None
        except MemoryError:
            raise OutOfMemory(f"there is no memory to read adapter {spec.name!r}") from None
        if adapter.base and self._base and Path(adapter.base).name != Path(self._base).name:
            logger.warning(
                "model {}: adapter {} was trained on {}", self._model, spec.name, adapter.base
            )
        try:
            prepared = host.prepare(adapter, pause)
        except (MemoryError, torch.OutOfMemoryError):
            raise OutOfMemory(
                f"the device has no room for adapter {spec.name!r}; unload others"
            ) from None
        info = AdapterInfo(spec.name, adapter.rank, prepared.num_bytes, tuple(adapter.pairs))
        return info, prepared

    async def _leave(self, resident: _Resident, host: AdapterHost) -> None:
        await resident.is_unused.wait()
        # A model that is being unloaded takes its adapters along.
        with contextlib.suppress(ModelUnloaded):
            await host.detach(resident.id)
        del self._residents[resident.info.name]

    def _find(self, name: str) -> _Resident | None:
        resident = self._residents.get(name)
        return None if resident is None or resident.leaving is not None else resident


def _compute_alone() -> None:
    """Steps have the other processors."""
    import torch

    torch.set_num_threads(1)
