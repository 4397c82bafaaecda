"""The library's functions with their types, and the structures that it shares with Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Final, Self

import torch

from llmserve.engines.batching.compute.huge_pages import empty
from llmserve.engines.batching.compute.native.build import load_library
from llmserve.engines.batching.compute.native.instructions import AUTO, InstructionSet, chosen

PANEL_ROWS: Final = 16
"""Rows of a weight in one packed panel."""
LANES: Final = 16
"""Numbers that one instruction computes."""

_OUT_OF_MEMORY: Final = 1
_TABLES: Final = dict(
    enumerate(("tokens", "positions", "slots", "rows", "blocks", "samples", "segments"), 2)
)


class Shape(Structure):
    """`Shape` in decoder.h."""

    _fields_ = (
        *((name, c_int64) for name in ("hidden", "intermediate", "layers", "query_heads")),
        *((name, c_int64) for name in ("kv_heads", "head_dim", "vocab")),
        *((name, c_float) for name in ("norm_epsilon", "score_scale", "embedding_scale")),
        *((name, c_float) for name in ("residual_scale", "logit_scale")),
        ("tiles", c_int32),
        *((name, c_void_p) for name in ("embedding", "head", "final_norm")),
    )


class Layer(Structure):
    """`Layer` in decoder.h."""

    _fields_ = (
        *((name, c_void_p) for name in ("qkv", "out", "gate_up", "down")),
        *((name, c_void_p) for name in ("qkv_bias", "out_bias", "gate_up_bias", "down_bias")),
        *((name, c_void_p) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        ("window", c_int64),
        ("rotates", c_int64),
    )


class Step(Structure):
    """`Step` in decoder.h."""

    _fields_ = (
        *((name, c_int64) for name in ("num_tokens", "num_rows", "num_sampled", "max_blocks")),
        *((name, c_int64) for name in ("num_positions", "num_blocks", "block_size", "threads")),
        *((name, c_void_p) for name in ("token_ids", "positions", "slots", "sampled")),
        *((name, c_void_p) for name in ("query_starts", "context_lengths", "block_tables")),
        *((name, c_void_p) for name in ("cosines", "sines", "keys", "values", "logits")),
        ("num_segments", c_int64),
        ("segments", c_void_p),
    )


class LowRank(Structure):
    """`LowRank` in low_rank.h."""

    _fields_ = (("down", c_void_p), ("up", c_void_p), ("rank", c_int64))


class NativeSegment(Structure):
    """`Segment` in low_rank.h."""

    _fields_ = (("start", c_int64), ("stop", c_int64), ("table", c_void_p))


class AttentionCall(Structure):
    """`AttentionCall` in paged_attention.h."""

    _fields_ = (
        *((name, c_int64) for name in ("num_tokens", "num_rows", "max_blocks", "num_blocks")),
        ("block_size", c_int64),
        *((name, c_void_p) for name in ("query_starts", "context_lengths", "block_tables")),
        *((name, c_int64) for name in ("query_heads", "kv_heads", "head_dim", "window")),
        ("threads", c_int64),
        *((name, c_void_p) for name in ("queries", "keys", "values", "out")),
        ("scale", c_float),
        ("tiles", c_int32),
    )


class Linear(Structure):
    """`Linear` in linear.h."""

    _fields_ = (
        *((name, c_int64) for name in ("depth", "columns")),
        *((name, c_void_p) for name in ("weight", "bias")),
    )


class NativeParams(Structure):
    """`SamplingParams` in sampling.h."""

    _fields_ = (
        ("uniform", c_double),
        *((name, c_float) for name in ("inverse_temperature", "top_p", "min_p")),
        ("top_k", c_int64),
    )


class Handle:
    """An object of the library's, destroyed together with this one."""

    def __init__(self, value: int | None, destroy: Callable[[int], None]) -> None:
        if not value:
            raise MemoryError("no memory for the native kernels")
        self.value = value
        self._destroy = destroy

    def __del__(self) -> None:
        if value := getattr(self, "value", 0):
            self._destroy(value)


class Kernels:
    """The library, compiled for some instructions."""

    def __init__(self, library: ctypes.CDLL, instructions: InstructionSet) -> None:
        self._library = library
        self._instructions = instructions
        self._scratch = torch.empty(0)  # of `sample`, which one thread calls at a time
        signatures = {
            "has_tiles": (c_int32, []),
            "panel_size": (c_int64, [c_int64]),
            "pack": (None, [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, c_int64]),
            "multiply": (
                None,
                [c_int32, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_void_p],
            ),
            "sample": (
                None,
                [c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p],
            ),
            "linear_workspace_create": (c_void_p, []),
            "linear_workspace_destroy": (None, [c_void_p]),
            "linear": (
                c_int32,
                [c_void_p, POINTER(Linear), c_void_p, c_int64, c_void_p, c_int32, c_int64],
            ),
            "attention_workspace_create": (c_void_p, []),
            "attention_workspace_destroy": (None, [c_void_p]),
            "attend": (c_int32, [c_void_p, POINTER(AttentionCall)]),
            "decoder_create": (c_void_p, [POINTER(Shape), c_void_p]),
            "decoder_destroy": (None, [c_void_p]),
            "decoder_step": (c_int32, [c_void_p, POINTER(Step)]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, f"llmserve_{name}")
            function.restype, function.argtypes = result, arguments

    @classmethod
    def load(cls, cache_dir: Path | None = None, instructions: str = AUTO) -> Self | str:
        """The kernels for these instructions, compiled first if necessary, or why there are
        none."""
        found = chosen(instructions)
        if isinstance(found, str):
            return found
        library = load_library(found, cache_dir)
        return library if isinstance(library, str) else cls(library, found)

    @property
    def instructions(self) -> str:
        """What they compute with."""
        return "AMX" if self.has_tiles() else self._instructions.shown

    def has_tiles(self) -> bool:
        """Whether the processor has AMX for bfloat16 and the system lets this process use it."""
        return bool(self._library.llmserve_has_tiles())

    def packed_numbers(self, rows: int, depth: int) -> int:
        """How many numbers a packed (rows, depth) weight has."""
        panels = -(-rows // PANEL_ROWS)
        return panels * int(self._library.llmserve_panel_size(depth))

    def allocate(self, numbers: int) -> torch.Tensor:
        """(numbers,) bfloat16 in huge pages, uninitialized."""
        return empty((numbers,), torch.bfloat16, torch.device("cpu"))

    def pack(
        self, weight: torch.Tensor, target: torch.Tensor, first: int = 0, every: int = 1
    ) -> None:
        """Pack (rows, depth) bfloat16 into the panels first, first + every, ... of `target`."""
        assert weight.dtype == target.dtype == torch.bfloat16
        source = weight.detach().contiguous()
        rows, depth = source.shape
        panels = -(-rows // PANEL_ROWS)
        last = first + (panels - 1) * every
        assert target.numel() >= (last + 1) * self.packed_numbers(1, depth)
        self._library.llmserve_pack(
            source.data_ptr(), rows, depth, target.data_ptr(), first, every, torch.get_num_threads()
        )

    def multiply(
        self, rows: torch.Tensor, packed: torch.Tensor, num_columns: int, *, tiles: bool
    ) -> torch.Tensor:
        """(num_rows, depth) bfloat16 × a packed weight: (num_rows, num_columns) float32."""
        num_rows, depth = rows.shape
        padded_rows, padded_depth = -(-num_rows // 16) * 16, -(-depth // 32) * 32
        panels = -(-num_columns // PANEL_ROWS)
        left = torch.zeros(padded_rows, padded_depth, dtype=torch.bfloat16)
        left[:num_rows, :depth] = rows
        tiles_of_rows = left.view(-1, 16, padded_depth // 32, 32).transpose(1, 2).contiguous()
        result = torch.empty(padded_rows, panels * PANEL_ROWS)
        self._library.llmserve_multiply(
            int(tiles),
            tiles_of_rows.data_ptr(),
            num_rows,
            packed.data_ptr(),
            panels,
            depth,
            result.data_ptr(),
        )
        return result[:num_rows, :num_columns]

    def sample(self, logits: torch.Tensor, params: ctypes.Array[NativeParams]) -> list[int]:
        """A token for each row of logits (rows, vocab) float32; negative if they are not
        numbers. The GIL is released meanwhile."""
        rows, vocab = logits.shape
        assert logits.dtype == torch.float32
        assert logits.is_contiguous()
        assert len(params) == rows
        threads = torch.get_num_threads() if rows > 1 else 1
        room = threads * -(-vocab // LANES) * LANES
        if self._scratch.numel() < room:
            self._scratch = torch.empty(room)
        tokens = (c_int64 * rows)()
        self._library.llmserve_sample(
            logits.data_ptr(), rows, vocab, params, self._scratch.data_ptr(), threads, tokens
        )
        return list(tokens)

    def linear_workspace(self) -> Handle:
        """Memory for the linear layers of one model, which run one after another."""
        library = self._library
        return Handle(
            library.llmserve_linear_workspace_create(), library.llmserve_linear_workspace_destroy
        )

    def linear(
        self,
        workspace: Handle,
        layer: Linear,
        rows: torch.Tensor,
        out: torch.Tensor,
        *,
        tiles: bool,
    ) -> None:
        """Rows (num_rows, depth) to `out` (num_rows, columns), both bfloat16 and contiguous. The
        GIL is released meanwhile.

        Raises:
            MemoryError: nothing was computed.
        """
        assert rows.dtype == out.dtype == torch.bfloat16
        assert rows.is_contiguous()
        assert out.is_contiguous()
        assert rows.shape == (len(out), layer.depth)
        assert out.shape[1] == layer.columns
        threads = torch.get_num_threads()
        _raise(
            self._library.llmserve_linear(
                workspace.value,
                layer,
                rows.data_ptr(),
                len(rows),
                out.data_ptr(),
                int(tiles),
                threads,
            )
        )

    def attention_workspace(self) -> Handle:
        """Memory for the attention of one model's layers, which run one after another."""
        library = self._library
        return Handle(
            library.llmserve_attention_workspace_create(),
            library.llmserve_attention_workspace_destroy,
        )

    def attend(self, workspace: Handle, call: AttentionCall) -> None:
        """Attention of a batch over one layer's cache; the GIL is released meanwhile.

        Raises:
            ValueError: an index points outside of its table; nothing was computed.
            MemoryError: nothing was computed.
        """
        _raise(self._library.llmserve_attend(workspace.value, call))

    def decoder(self, shape: Shape, layers: ctypes.Array[Layer]) -> Handle:
        """A decoder; everything that the structures point to must outlive it."""
        library = self._library
        return Handle(
            library.llmserve_decoder_create(shape, layers), library.llmserve_decoder_destroy
        )

    def run_step(self, decoder: Handle, step: Step) -> None:
        """One step; the GIL is released meanwhile.

        Raises:
            ValueError: an index points outside of its table; nothing was computed.
            MemoryError: nothing was computed.
        """
        _raise(self._library.llmserve_decoder_step(decoder.value, step))


def _raise(failure: int) -> None:
    if failure == _OUT_OF_MEMORY:
        raise MemoryError("no memory for a step of the native kernels")
    if failure:
        raise ValueError(f"the batch's {_TABLES[failure]} point outside of their table")
