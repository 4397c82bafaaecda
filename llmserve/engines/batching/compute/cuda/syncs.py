"""Finds operations that would wait for the device, before a CUDA graph is recorded.

torch's own `set_sync_debug_mode` applies to the whole process, where other models may be serving;
this one applies to the thread that enters it. It does not see inside an operation.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
READ_BY_THE_HOST: Final = frozenset(
    {
        _aten._local_scalar_dense,  # item(), tolist(), bool()
        _aten.is_nonzero,
        _aten.equal,
        _aten.nonzero,
        _aten.masked_select,
        _aten._unique2,
        _aten.unique_dim,
        _aten.unique_consecutive,
        _aten.bincount,
    }
)
COPIES: Final = frozenset({_aten._to_copy, _aten.copy_})
INDEXING: Final = frozenset({_aten.index, _aten.index_put, _aten.index_put_})


class WaitsForDevice(RuntimeError):
    """An operation waits for the device, or its result's shape depends on the data there."""


class RefuseSyncs(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own stub
    """Within it such an operation raises `WaitsForDevice` instead of running."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # In inference mode these arrive as a whole; look at what they are composed of.
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        packet = func.overloadpacket
        if (
            packet in READ_BY_THE_HOST
            or (packet in COPIES and _crosses(func, args, kwargs))
            or (packet in INDEXING and _has_mask(args[1]))
            or (func is _aten.repeat_interleave.Tensor and kwargs.get("output_size") is None)
        ):
            raise WaitsForDevice(f"{func} waits for the device")
        return func(*args, **kwargs)


def _crosses(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether data are copied between the host and a device. (Copies within the host are fine.)"""
    source = args[1] if func.overloadpacket is _aten.copy_ else args[0]
    target = args[0].device if func.overloadpacket is _aten.copy_ else kwargs.get("device")
    return target is not None and torch.device(target).type != source.device.type


def _has_mask(indices: Any) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
