"""One request as the scheduler sees it: its tokens, and the blocks that hold their keys and
values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from llmserve.engines.adapters.segment import NO_ADAPTER
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.task import TokenTask

NO_STATE: Final = -1


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the tokens generated after it. Owned by the step loop's thread.

    Attributes:
        token_ids: the prompt, then what was generated.
        caller: who sent it; callers share the engine fairly.
        priority: the caller's; 4 gets four times what 1 gets.
        is_background: whether it gives way to those that are not.
        cache_salt: prefixes are shared only among sequences with the same salt.
        max_new_tokens: bound on what is generated, so that a request which could never fit into
            the pool is refused at once. Where it is 0, the prompt is only computed.
        scoring: how far its prompt's log probabilities are; `None` if nobody wants them.
        adapter_id: of what it is computed with; prefixes are shared with the same one only.
        num_computed: how many tokens, from the first on, have their keys and values in the cache.
        num_cached: how many tokens were found in the prefix cache when it first ran.
        num_preemptions: how often it lost its blocks and had to be computed again.
        blocks: block ids; token i is in `blocks[i // block_size]`.
        state: its slot in the pool of recurrent states while it runs, if the model has them.
        block_hashes: hashes of its full blocks, as far as they were needed.
    """

    token_ids: list[int]
    caller: str = ""
    priority: int = 1
    cache_salt: str = ""
    max_new_tokens: int = 1
    scoring: Scoring | None = None
    num_computed: int = 0
    num_cached: int = 0
    num_preemptions: int = 0
    is_background: bool = False
    adapter_id: int = NO_ADAPTER
    state: int = NO_STATE
    blocks: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, task: TokenTask, adapter_id: int = NO_ADAPTER) -> Self:
        """Nothing of the task is computed yet."""
        return cls(
            list(task.prompt_ids),
            task.caller,
            task.priority,
            task.cache_salt,
            task.max_tokens,
            Scoring.of(task),
            is_background=task.is_background,
            adapter_id=adapter_id,
        )

    @property
    def num_tokens(self) -> int:
        """Prompt and generated tokens together."""
        return len(self.token_ids)
