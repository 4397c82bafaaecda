"""Sparse attention by an indexer (DeepSeek's DSA): a layer attends to the `index_topk` tokens that
a small network of its own scores highest. In contexts that are no longer, it attends to all."""

from __future__ import annotations

from typing import Any

import torch


def most_selected(config: Any) -> int | None:
    """How many tokens a layer attends to; `None` for all."""
    found = getattr(config.get_text_config(decoder=True), "index_topk", None)
    return found if isinstance(found, int) else None


class SelectAll:
    """A model's indexers, which would score the tokens of all rows as one sequence, select nothing:
    right where every token would be selected. `close` gives them back.

    Attributes:
        arguments: what the model is called with, too: a mask, as it reads one for its indexers.
    """

    def __init__(self, model: Any) -> None:
        self.arguments: dict[str, torch.Tensor] = {}
        self._indexers: list[Any] = []
        if most_selected(model.config) is None:
            return
        modules = (getattr(module, "indexer", None) for module in model.modules())
        self._indexers = [indexer for indexer in modules if indexer is not None]
        nothing = torch.empty(0, dtype=torch.int32, device=model.device)
        for indexer in self._indexers:
            indexer.forward = lambda *args, **kwargs: nothing
        if self._indexers:
            self.arguments["attention_mask"] = torch.zeros(1, 1, 1, 1, device=model.device)

    def close(self) -> None:
        """The indexers select again. May be called twice."""
        for indexer in self._indexers:
            del indexer.forward
        self._indexers = []
