"""Inputs one after another in one row: nothing is padding, and each attends to itself alone.

transformers' attention is replaced by one that goes through the inputs; all else of a model treats
tokens one by one. Whether that is so is tried out when the model is loaded.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

import torch
from loguru import logger
from torch import Tensor
from torch.nn import functional
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.encoding.loading import LoadedEncoder
from llmserve.engines.encoding_task import TokenInput

NAME: Final = "llmserve_packed"
TOLERANCES: Final = {"float32": 1e-4}
OTHER_TOLERANCE: Final = 0.03
"""By which the trial's numbers may differ, of the largest one; less precise types by more."""
TRIAL_LENGTHS: Final = (7, 1, 12, 40, 3)
TRIAL_TOKENS: Final = 1024
"""Of the trial, if the model's positions end later: a row may be longer than these."""


class _OfThread(threading.local):
    """`lengths` of the inputs in the row that the thread computes."""

    lengths: list[int]


of_thread: Final = _OfThread()


class NotPackable(Exception):
    """A model attends in a way that goes beyond its inputs' own keys and values; says how."""


def packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **fields: Any
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, heads, tokens, head size) to (1, tokens, heads, head size).

    Raises:
        NotPackable: the layer wants windows, caps, sinks or biases.
    """
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if fields.get(name) is not None:
            raise NotPackable(f"its attention has {name}")
    lengths = of_thread.lengths
    is_causal = fields.get("is_causal")
    is_causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    groups = query.shape[1] // key.shape[1]
    parts = [
        functional.scaled_dot_product_attention(
            one_query,
            one_key,
            one_value,
            scale=fields.get("scaling"),
            is_causal=bool(is_causal) and one_query.shape[2] > 1,
            enable_gqa=groups > 1,
        )
        for one_query, one_key, one_value in zip(
            *(torch.split(each, lengths, dim=2) for each in (query, key, value)), strict=True
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *arguments, **fields: None)


class Packing:
    """Runs a model on inputs in one row; its attention is this one's until `undo`. On any thread,
    also on several at once."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self._loaded = loaded
        self._plain = loaded.model.config._attn_implementation
        loaded.model.config._attn_implementation = NAME

    def undo(self) -> None:
        """The model has transformers' attention again."""
        self._loaded.model.config._attn_implementation = self._plain

    def hidden(self, inputs: Sequence[TokenInput]) -> Tensor:
        """The vectors of all tokens, (tokens, hidden)."""
        loaded = self._loaded
        lengths = [len(each) for each in inputs]
        ids = array("i")
        for each in inputs:
            ids.extend(each.ids)
        positions = torch.cat([torch.arange(length) for length in lengths])
        fields: dict[str, Any] = {
            "input_ids": torch.frombuffer(ids, dtype=torch.int32).long()[None].to(loaded.device),
            "position_ids": (positions + loaded.first_position)[None].to(loaded.device),
        }
        if "token_type_ids" in loaded.takes:
            fields["token_type_ids"] = torch.zeros_like(fields["input_ids"])
        if "use_cache" in loaded.takes:
            fields["use_cache"] = False
        of_thread.lengths = lengths
        hidden: Tensor = loaded.model(**fields).last_hidden_state[0]
        return hidden


def packing_for(loaded: LoadedEncoder) -> Packing | None:
    """How to pack a model's inputs, if it gives the same numbers; the log says why not."""
    kinds = set(getattr(loaded.model.config, "layer_types", None) or ())
    if "position_ids" not in loaded.takes or kinds - {"full_attention"}:
        logger.debug("inputs are not packed: positions cannot be given, or layers have windows")
        return None
    packing, inputs = Packing(loaded), _trial(loaded)
    try:
        with torch.inference_mode():
            packed = packing.hidden(inputs)
            packing.undo()
            wanted = torch.cat([_alone(loaded, each) for each in inputs])
    # Models raise whatever they like where something is not as they know it.
    except Exception as error:
        logger.debug("inputs are not packed: {}: {}", type(error).__name__, error)
        packing.undo()
        return None
    difference = (packed.float() - wanted.float()).abs().max() / wanted.float().abs().max()
    if not bool(difference < TOLERANCES.get(loaded.dtype, OTHER_TOLERANCE)):
        logger.debug("inputs are not packed: the numbers differ by {:.2g}", float(difference))
        return None
    return Packing(loaded)


def _trial(loaded: LoadedEncoder) -> list[TokenInput]:
    """Inputs of different lengths, more tokens than the model has positions."""
    ids = [i for i in range(loaded.tokenizer.vocab_size) if i != loaded.pad_id]
    inputs, total = list[TokenInput](), 0
    for length in cycle(TRIAL_LENGTHS):
        if total > min(loaded.max_context, TRIAL_TOKENS):
            return inputs
        numbers = range(total, total + min(length, loaded.max_context))
        chosen = [ids[7919 * number % len(ids)] for number in numbers]
        inputs.append(TokenInput(array("i", chosen)))
        total += len(numbers)
    raise AssertionError("a cycle has no end")


def _alone(loaded: LoadedEncoder, each: TokenInput) -> Tensor:
    ids = torch.tensor([list(each.ids)], device=loaded.device)
    hidden: Tensor = loaded.model(input_ids=ids).last_hidden_state[0]
    return hidden
