"""Latent attention (MLA, DeepSeek-V2, arXiv 2405.04434): the keys and values of all heads are made
of one short vector for each token, and that is what the cache keeps.

stored                  latent (rank)          | rotated part of the key, the same for all heads
key of a head           latent · key matrix    | rotated part
value of a head         latent · value matrix

A query may be multiplied by the key matrix instead (it "absorbs" it): then it attends to what is
stored, which is one KV head for all query heads, and the latents that it mixes become values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.weights.agreement import agree


@dataclass(frozen=True, slots=True, eq=False)
class Latent:
    """A layer's matrices: a copy of them, in the form that is multiplied.

    Attributes:
        keys: (heads, unrotated, rank).
        values: (heads, rank, value_dim).
    """

    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, projection: Any, rank: int, value: torch.Tensor) -> Self:
        """Of a linear layer from a latent to keys and values of all heads, quantised or packed in
        whatever way: it is asked what it makes of each number of a latent. `value` is any that it
        made, (1, heads, num_tokens, value_dim)."""
        unit = torch.eye(rank, device=value.device, dtype=value.dtype)
        made = projection(unit).view(rank, value.shape[1], -1).permute(1, 0, 2)
        unrotated = made.shape[2] - value.shape[3]
        return cls(
            made[..., :unrotated].transpose(1, 2).contiguous(), made[..., unrotated:].contiguous()
        )

    @property
    def rank(self) -> int:
        """Numbers of a latent."""
        return self.values.shape[1]

    @property
    def value_dim(self) -> int:
        """Numbers of a value."""
        return self.values.shape[2]

    def expanded_from(self, width: int) -> LayerShape:
        """The keys and values that are made of so many numbers."""
        heads, unrotated, _ = self.keys.shape
        return LayerShape(heads, unrotated + width - self.rank, self.value_dim)

    def absorb(self, query: torch.Tensor) -> torch.Tensor:
        """(num_tokens, heads, unrotated + rotated) to (num_tokens, heads, rank + rotated)."""
        unrotated = self.keys.shape[1]
        latent = torch.bmm(query[..., :unrotated].transpose(0, 1), self.keys).transpose(0, 1)
        return torch.cat((latent, query[..., unrotated:]), -1)

    def project(self, mixed: torch.Tensor) -> torch.Tensor:
        """(num_tokens, heads, rank) to (num_tokens, heads, value_dim)."""
        return torch.bmm(mixed.transpose(0, 1), self.values).transpose(0, 1)

    def expand(self, stored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, (heads, num_tokens, ...), of what is stored, (num_tokens, rank +
        rotated)."""
        latent, rotated = stored[:, : self.rank], stored[:, self.rank :]
        keys = latent @ self.keys.transpose(1, 2)
        rotated = rotated.expand(len(keys), *rotated.shape)
        return torch.cat((keys, rotated), -1), latent @ self.values


class LatentTokens:
    """Stands for a cache before a layer, and remembers the latents of a step's tokens, which the
    layer would put there before it makes keys and values of them."""

    def __init__(self) -> None:
        self._given: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, latents: torch.Tensor, rotated: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same again: attention finds earlier ones in the paged cache."""
        self._given = latents, rotated
        return latents, rotated

    def take(self) -> torch.Tensor:
        """What is stored of these tokens: (num_tokens, 1, rank + rotated)."""
        assert self._given is not None, "a layer attends after it has updated its cache"
        latents, rotated = self._given
        self._given = None
        return torch.cat((latents[0], rotated[0]), -1).transpose(0, 1)

    def watched(
        self, projection: Any, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[int, int] | None:
        """The widths of the latents and of the rotated parts that the layer has put there, if these
        keys and values, (1, heads, num_tokens, ...), are made of them as above."""
        if self._given is None or any(part.shape[1] != 1 for part in self._given):
            return None
        rank, rotated = (part.shape[-1] for part in self._given)
        stored = self.take()[:, 0]
        latent = Latent.of(projection, rank, value)
        if latent.keys.shape[1] + rotated != key.shape[-1]:
            return None
        is_right = all(
            agree(expected[0].float(), made.float(), key.dtype)
            for expected, made in zip((key, value), latent.expand(stored), strict=True)
        )
        return (rank, rotated) if is_right else None


class LatentLayers:
    """The layers of a model that seem to attend in this way, by their modules' names in
    transformers. While it is open each has `LatentTokens` in place of a cache."""

    def __init__(self, model: Any) -> None:
        self.tokens: dict[int, LatentTokens] = {}
        self._hooks: list[Any] = []
        for module in model.modules():
            if hasattr(module, "kv_b_proj") and hasattr(module, "layer_idx"):
                tokens = self.tokens[module.layer_idx] = LatentTokens()
                give = partial(_give, tokens)
                self._hooks.append(module.register_forward_pre_hook(give, with_kwargs=True))

    def close(self) -> None:
        """May be called twice."""
        for hook in self._hooks:
            hook.remove()


def _give(
    tokens: LatentTokens, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return arguments, named | {"past_key_values": tokens}
