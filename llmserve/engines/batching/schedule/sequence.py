"""One request as the scheduler sees it: its tokens, and the blocks that hold their keys and
values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and generated tokens. Owned by the step loop's thread.

    Attributes:
        token_ids: the prompt, then what was generated.
        num_prompt: how many of them are the prompt.
        caller: whose it is; callers share the engine fairly.
        priority: the caller's; 4 gets four times what 1 gets.
        request: what its owner keeps with it; the scheduler never looks inside.
        num_computed: tokens from the first on whose keys and values are in the cache.
        num_cached: of the prompt, found in the prefix cache when it first ran.
        blocks: block ids; token i is in `blocks[i // block_size]`.
        preemptions: how often it lost its blocks and was computed again.
        digests: names of its full blocks in the prefix cache, as far as they were asked for.
        max_new_tokens: the answer's bound, so that what no pool could hold is refused at once;
            `None` where whoever adds it sees to that.
        salt: prefixes are shared among sequences of the same salt only.
    """

    token_ids: list[int]
    num_prompt: int
    caller: str = ""
    priority: int = 1
    request: Any = None
    num_computed: int = 0
    num_cached: int = 0
    blocks: list[int] = field(default_factory=list)
    preemptions: int = 0
    digests: list[bytes] = field(default_factory=list)
    max_new_tokens: int | None = None
    salt: bytes = b""

    @property
    def num_tokens(self) -> int:
        """Prompt and generated tokens together."""
        return len(self.token_ids)
