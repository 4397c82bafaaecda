"""What the client asks for, and when."""

from __future__ import annotations

import itertools

import orjson
import pytest

from llmserve.bench.workload import FIRST_TOKEN_ID, Workload


def test_the_same_seed_asks_the_same() -> None:
    first, again, other = (
        list(itertools.islice(Workload("m", spread=0.5, seed=seed).bodies(), 5))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_prompts_share_what_they_are_told_to_and_vary_as_told() -> None:
    workload = Workload("m", input_tokens=40, output_tokens=10, spread=0.25, shared_tokens=20)
    bodies = [orjson.loads(body) for body in itertools.islice(workload.bodies(), 50)]
    prompts = [body["prompt"].split() for body in bodies]
    assert all(prompt[:20] == prompts[0][:20] for prompt in prompts)
    assert len({tuple(prompt[20:]) for prompt in prompts}) == 50
    lengths = {len(prompt) for prompt in prompts}
    assert min(lengths) >= 30
    assert max(lengths) <= 50
    assert len(lengths) > 5
    assert all(7 <= body["max_tokens"] <= 13 for body in bodies)


def test_prompts_are_cut_to_what_a_token_turned_out_to_be() -> None:
    workload = Workload("m", input_tokens=100, shared_tokens=50).calibrated(125)
    prompt = orjson.loads(next(workload.bodies()))["prompt"].split()
    assert len(prompt) == 80


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    arrivals = list(itertools.islice(Workload("m", rate=50.0).arrivals(), 5000))
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(100.0, rel=0.1)


def test_token_ids_make_prompts_of_exact_length_whatever_a_word_is() -> None:
    workload = Workload("m", input_tokens=40, shared_tokens=10, token_ids=150).calibrated(80)
    prompts = [orjson.loads(body)["prompt"] for body in itertools.islice(workload.bodies(), 20)]
    assert {len(prompt) for prompt in prompts} == {40}
    assert set(itertools.chain(*prompts)) <= set(range(FIRST_TOKEN_ID, 150))
    assert all(prompt[:10] == prompts[0][:10] for prompt in prompts)
    assert prompts[0][10:] != prompts[1][10:]
