"""Log probabilities of a prompt in vLLM's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmserve.api.token_logprobs import LEAST, Spell
from llmserve.domain import TokenLogprobs


def prompt_logprobs_body(
    tokens: Sequence[TokenLogprobs], num_top: int, spelling: Spell
) -> list[dict[str, Any] | None]:
    """One object for each token of the prompt: its own entry, then the likeliest ones', by token
    id. Nothing comes before the first token, so that it has none."""
    return [None, *(_entries(token, num_top, spelling) for token in tokens)]


def _entries(token: TokenLogprobs, num_top: int, spelling: Spell) -> dict[str, Any]:
    def named() -> Iterator[tuple[int, float, int | None]]:
        yield token.token_id, token.logprob, token.rank
        for rank, (token_id, logprob) in enumerate(token.top[:num_top], 1):
            if token_id != token.token_id:
                yield token_id, logprob, rank

    return {
        str(token_id): {
            "logprob": max(logprob, LEAST),
            "rank": rank,
            "decoded_token": spelling(token_id).text,
        }
        for token_id, logprob, rank in named()
    }
