"""Lets the recurrent layers of a model take the rows of a step apart, each with its own state.

A step's tokens pass through the model as one sequence. Before a layer that has states they become
batches: decode rows are one, (num_rows, 1), and each piece of a prompt is one of its own; rows
that begin are apart from those that go on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import nn

from llmserve.engines.adapters.segment import Segment
from llmserve.engines.batching.compute.mamba_scan import carrying
from llmserve.engines.batching.compute.state_pool import StatePool, StateShape
from llmserve.engines.batching.compute.state_rows import RowGroup, StateRows
from llmserve.engines.batching.compute.state_view import StateView

CACHE_ARGUMENTS: Final = ("cache_params", "past_key_values", "past_key_value")
"""What families call the cache that they hand to a layer."""


class RecurrentLayers:
    """Between `begin` and `end`, modules with states compute the rows of a step. `close` gives
    them their own `forward` back."""

    def __init__(self, model: Any, states: Sequence[StateShape]) -> None:
        self._step: tuple[StatePool, StateRows] | None = None
        self._group: RowGroup | None = None
        self._undo = []
        for name in dict.fromkeys(state.module for state in states):
            module = model.get_submodule(name)
            self._undo.append(replace_forward(module, self._forward(name, module)))

    def begin(self, pool: StatePool, rows: StateRows) -> None:
        """Modules compute these rows now."""
        self._step = pool, rows

    def end(self) -> None:
        """The step is over, or has failed."""
        self._step = self._group = None

    def close(self) -> None:
        """Harmless if done before."""
        for undo in self._undo:
            undo()
        self._undo = []

    def segments(self, whole: Sequence[Segment]) -> tuple[Segment, ...]:
        """Of a step's segments, those of the tokens that a layer sees now."""
        group = self._group
        if group is None:
            return tuple(whole)
        first, last = group.first_token, group.first_token + group.num_tokens
        found = []
        for segment in whole:
            start = max(segment.start, first)
            stop = last if segment.stop is None else min(segment.stop, last)
            if start < stop:
                found.append(Segment(segment.adapter_id, start - first, stop - first))
        return tuple(found)

    def _forward(self, name: str, module: nn.Module) -> Callable[..., Any]:
        own = module.forward
        argument = cache_argument(module)
        assert argument is not None, "a module with states takes a cache"
        cache, place = argument

        def forward(*args: Any, **kwargs: Any) -> Any:
            assert self._step is not None, "a recurrent layer outside a step"
            pool, rows = self._step
            states = pool.of(name)
            results = []
            total = sum(group.num_tokens for group in rows.groups)
            for group in rows.groups:
                self._group = group
                view = StateView(None if group.is_fresh else _reader(states, rows, group))
                own_args = [_part(each, group, total) for each in args]
                own_kwargs = {k: _part(each, group, total) for k, each in kwargs.items()}
                if len(own_args) > place:
                    own_args[place] = view
                else:
                    own_kwargs[cache] = view
                with carrying(module, view, group):
                    results.append(own(*own_args, **own_kwargs))
                _write(states, view, rows.targets[_rows(group)])
            self._group = None
            return _joined(results, rows.groups)

        return forward


def replace_forward(module: Any, forward: Callable[..., Any]) -> Callable[[], None]:
    """Returns how to undo it: the module may have had a `forward` of its own, not its class's."""
    before = vars(module).get("forward")
    module.forward = forward

    def undo() -> None:
        del module.forward
        if before is not None:
            module.forward = before

    return undo


def cache_argument(module: nn.Module) -> tuple[str, int] | None:
    """The name under which a module's `forward` takes the cache, if it does, and its place among
    the arguments."""
    parameters = list(inspect.signature(module.forward).parameters)
    found = (name for name in CACHE_ARGUMENTS if name in parameters)
    name = next(found, None)
    return None if name is None else (name, parameters.index(name))


def _rows(group: RowGroup) -> slice:
    return slice(group.first_row, group.first_row + group.num_rows)


def _reader(
    states: dict[str, torch.Tensor], rows: StateRows, group: RowGroup
) -> Callable[[str], torch.Tensor]:
    return lambda name: states[name].index_select(0, rows.sources[_rows(group)])


def _write(states: dict[str, torch.Tensor], view: StateView, targets: torch.Tensor) -> None:
    if view.states.keys() != states.keys():
        missing = ", ".join(states.keys() ^ view.states.keys())
        raise RuntimeError(f"a recurrent layer did not keep its states as at load: {missing}")
    for name, state in states.items():
        state.index_copy_(0, targets, view.states[name].to(state.dtype))


def _part(value: Any, group: RowGroup, total: int) -> Any:
    """The group's part of an argument: a tensor (1, total, ...) of all tokens becomes (num_rows,
    length, ...)."""
    if isinstance(value, torch.Tensor) and value.shape[:2] == (1, total):
        part = value[0, group.first_token : group.first_token + group.num_tokens]
        return part.view(group.num_rows, group.length, *part.shape[1:])
    if isinstance(value, tuple):
        return tuple(_part(each, group, total) for each in value)
    return value


def _joined(results: list[Any], groups: tuple[RowGroup, ...]) -> Any:
    """One result of those of all groups. What is not a tensor of tokens is left out: no model uses
    it."""
    if isinstance(results[0], tuple):
        return tuple(_joined(list(parts), groups) for parts in zip(*results, strict=True))
    flat = []
    for result, group in zip(results, groups, strict=True):
        shape = (group.num_rows, group.length)
        if not isinstance(result, torch.Tensor) or result.shape[:2] != shape:
            return None
        flat.append(result.reshape(1, group.num_tokens, *result.shape[2:]))
    return flat[0] if len(flat) == 1 else torch.cat(flat, 1)
