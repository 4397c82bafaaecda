"""Steps of real models without threads, to compare with plain `generate`."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from transformers import GenerationConfig

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.weights.loading import LoadedModel

BLOCK = 8
NEW_TOKENS = 12
GREEDY = SamplingParams(temperature=0.0)


@torch.inference_mode()
def generated(loaded: LoadedModel, prompt: list[int], new_tokens: int = NEW_TOKENS) -> list[int]:
    ids = torch.tensor([prompt])
    config = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, pad_token_id=loaded.pad_id, use_cache=True
    )
    whole = loaded.model.generate(
        ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    return list(whole[0, len(prompt) :].tolist())


class Machine:
    """Scheduler and runner without threads: one turn, one step."""

    def __init__(
        self, loaded: LoadedModel, computation: ModelComputation, *, budget: int, is_caching: bool
    ) -> None:
        self.loaded = loaded
        self.computation = computation
        self.num_cached = 0
        self.rows: dict[Sequence, RowState] = {}
        self.num_prompt: dict[Sequence, int] = {}
        states = computation.cache.states
        self.scheduler = Scheduler(
            num_blocks=computation.cache.num_blocks,
            block_size=BLOCK,
            max_tokens_per_step=budget,
            max_sequences=min(budget, 16),
            num_states=None if states is None else states.num_slots,
            is_caching=is_caching,
        )

    def add(self, prompt: list[int]) -> Sequence:
        vocab = self.loaded.model.get_input_embeddings().num_embeddings
        sequence = Sequence(list(prompt))
        self.rows[sequence] = RowState(GREEDY, prompt, (), vocab, self.loaded.device)
        self.num_prompt[sequence] = len(prompt)
        self.scheduler.add(sequence)
        return sequence

    def turn(self) -> None:
        plan = self.scheduler.plan()
        assert plan.slices, "work, and nothing planned"
        rows = [self.rows[part.sequence] for part in plan.slices if part.is_sampled]
        choices = self.computation.compute(self.computation.prepare(plan), rows).tokens
        self.scheduler.commit(plan, [choice.token_id for choice in choices])

    def remove(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)

    def run(self, sequences: list[Sequence], new_tokens: int = NEW_TOKENS) -> list[list[int]]:
        left = list(sequences)
        for _ in range(3000):
            for sequence in list(left):
                if sequence.num_tokens - self.num_prompt[sequence] >= new_tokens:
                    self.num_cached += sequence.num_cached
                    self.remove(sequence)
                    left.remove(sequence)
            if not left:
                return [s.token_ids[self.num_prompt[s] :][:new_tokens] for s in sequences]
            self.turn()
        raise AssertionError("not done")


def join_and_leave(
    machine: Machine,
    prompts: list[list[int]],
    after: Callable[[list[Sequence]], None] = lambda live: None,
) -> list[list[int]]:
    """What comes of prompts that join one by one, between others that leave before their end.
    `after` each turn, and each that leaves, sees who is left."""
    numbers = random.Random(3)
    sequences: list[Sequence] = []
    leavers: list[Sequence] = []

    def leave(leaver: Sequence) -> None:
        machine.scheduler.remove(leaver)
        after([*sequences, *leavers])

    for prompt in prompts:
        sequences.append(machine.add(prompt))
        leavers.append(machine.add(prompts[numbers.randrange(len(prompts))]))
        for _ in range(numbers.randrange(1, 4)):
            machine.turn()
            after([*sequences, *leavers])
        if len(leavers) > 2:
            leave(leavers.pop(numbers.randrange(len(leavers))))
    while leavers:
        leave(leavers.pop())
    return machine.run(sequences)
