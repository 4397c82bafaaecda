"""The rules that sampling parameters ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from llmserve.domain import SamplingParams
from llmserve.engines.rules.allowed_tokens import AllowedTokens
from llmserve.engines.rules.bad_words import BadWords, TokenSequence
from llmserve.engines.token_rule import TokenRule


def rules_of(
    sampling: SamplingParams, banned: tuple[TokenSequence, ...]
) -> list[Callable[[], TokenRule]]:
    """What makes each of them, in the order in which they are asked. `banned` are the
    tokens of the bad words. The rule of `thinking_budget` needs the model's markers as well."""
    rules: list[Callable[[], TokenRule]] = []
    if sampling.allowed_token_ids:
        rules.append(partial(AllowedTokens, sampling.allowed_token_ids))
    if banned:
        rules.append(partial(BadWords, banned))
    return rules
