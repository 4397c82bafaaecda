"""Arithmetic and words of scripts/bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measure.speed import host_parts, servers
from measure.speed.__main__ import CONCURRENCIES, LENGTHS, TRIES, _seed
from measure.speed.ceilings import Ceilings
from measure.speed.intrusion import Intrusion
from measure.speed.limits import ModelShape, Workload, limit, prefill_seconds, step_seconds
from measure.speed.report import LOOP, Results, as_markdown, draw
from measure.speed.step_profile import StepProfile
from transformers import AutoTokenizer

from llmserve.bench.load import PROBE_SEED
from llmserve.engines.step_report import StepParts, StepReport
from llmserve.text.tokenizer import Tokenizer

CEILINGS = Ceilings(10e9, {1: 20e9, 8: 100e9, 32: 400e9})
SHAPE = ModelShape(
    weight_bytes=200_000_000, body=80_000_000, head=20_000_000, kv_bytes=10_000, usual_tokens=500
)


def test_the_rate_is_that_of_the_next_larger_batch() -> None:
    assert [CEILINGS.flops(rows) for rows in (1, 2, 8, 9, 500)] == [
        20e9, 100e9, 100e9, 400e9, 400e9,
    ]  # fmt: skip


def test_at_its_peak_a_machine_multiplies_few_rows_as_fast_as_many() -> None:
    assert {CEILINGS.at_peak().flops(rows) for rows in (1, 8, 500)} == {400e9}


def test_a_step_is_bound_by_bytes_or_by_products() -> None:
    one = Workload(1, 100, 20)
    assert step_seconds(SHAPE, CEILINGS, one) == (200e6 + 10_000 * 110) / 10e9
    slow = Ceilings(10e9, {1: 1e9})
    assert step_seconds(SHAPE, slow, one) == 200e6 / 1e9


def test_prefill_multiplies_every_token_and_the_head_once_an_answer() -> None:
    work = Workload(4, 100, 20)
    assert prefill_seconds(SHAPE, CEILINGS, work) == (2 * 80e6 * 400 + 2 * 20e6 * 4) / 400e9


def test_the_limit_counts_the_first_token_with_its_prefill() -> None:
    work = Workload(2, 100, 11)
    seconds = prefill_seconds(SHAPE, CEILINGS, work) + 10 * step_seconds(SHAPE, CEILINGS, work)
    assert limit(SHAPE, CEILINGS, work) == pytest.approx(22 / seconds)


@pytest.mark.parametrize(("is_tied", "table"), [(True, 0), (False, 64 * 8)])
def test_a_shape_is_read_from_a_models_folder(tmp_path: Path, is_tied: bool, table: int) -> None:
    config = {
        "vocab_size": 64,
        "hidden_size": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "tie_word_embeddings": is_tied,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(bytes(2 * 5000))
    shape = ModelShape.of(tmp_path)
    assert shape.weight_bytes == 2 * (5000 - table)
    assert (shape.head, shape.body) == (512, 5000 - table - 512)
    assert shape.kv_bytes == 2 * 3 * 2 * 2 * 2
    assert shape.usual_tokens == 51


def test_a_server_that_is_not_there_is_told() -> None:
    server = servers.Server("x", ("/nowhere/x",), "/", "chat")
    with pytest.raises(servers.NotStarted, match="x is not installed"), servers.running(server):
        pass


def test_the_report_has_every_figure_with_its_share(tmp_path: Path) -> None:
    works = [Workload(1, 128, 64), Workload(8, 128, 64)]
    results = Results(
        machine="a box",
        model="a model",
        shape=SHAPE,
        missing={"vLLM": "not installed"},
        intrusion=Intrusion(0.010, 0.025, 1.5),
        prefix=(1.0, 0.1),
    )
    slower = Ceilings(8e9, {1: 21e9, 8: 90e9, 32: 300e9})
    best = Ceilings(10e9, {1: 21e9, 8: 100e9, 32: 400e9})
    limits = [limit(SHAPE, best, work) for work in works]
    for work, most in zip(works, limits, strict=True):
        results.add_ceilings(work, [slower, CEILINGS])
        results.add_speed(LOOP, work, [0.9 * most, 0.1 * most, 2.0 * most])
    reports = [
        {"output_tokens_per_second": share * limits[0], "ttft": {"p50": 0.02}}
        for share in (0.81, 0.5, 0.9)
    ]
    results.add_reports("llmserve", works[0], reports)
    told = as_markdown(results)
    for words in (
        f"| limit | {limits[0]:,.0f} | {limits[1]:,.0f} |",
        f"| limit, few rows at the rate of many | {limit(SHAPE, best.at_peak(), works[0]):,.0f} | ",
        f"| llmserve | {0.81 * limits[0]:,.0f} (0.81) | - |",
        f"| engine loop alone | {0.9 * limits[0]:,.0f} (0.90) | {0.9 * limits[1]:,.0f} (0.90) |",
        "128 in / 64 out × 1: 0.90",
        "| llmserve | 20 | - |",
        "(2.50×)",
        "(0.10×)",
        "Not measured: vLLM: not installed",
        "memory read 8.0 to 10.0 GB/s",
        "21 at 1, 100 at 8, 400 at 32",
    ):
        assert words in told
    draw(results, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_server_that_did_not_come_up_leaves_the_rest_of_the_report() -> None:
    work = Workload(1, 128, 64)
    results = Results("a box", "a model", SHAPE, missing={"llmserve": "it was killed"})
    results.add_ceilings(work, [CEILINGS])
    results.add_speed(LOOP, work, [10.0])
    told = as_markdown(results)
    assert "| engine loop alone | 10 (" in told
    assert "Not measured: llmserve: it was killed" in told
    assert "÷" not in told


def test_no_two_runs_have_a_prompt_in_common() -> None:
    works = [Workload(c, *lengths) for lengths in LENGTHS for c in CONCURRENCIES]
    seeds = [_seed(work, works, number) for work in works for number in range(TRIES + 1)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < PROBE_SEED


def test_the_hosts_part_of_a_step_is_told_beside_its_budget(tiny_model: Path) -> None:
    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(tiny_model))
    parts = host_parts.measure(tokenizer, rows=3, context=64, steps=4)
    assert list(parts.milliseconds) == list(host_parts.BUDGETS)
    lines = parts.as_markdown().splitlines()
    assert len(lines) == 2 + len(host_parts.BUDGETS) + 1
    assert lines[-1].startswith("| the first four together | ")


def test_a_profile_adds_up_the_reports_of_its_time() -> None:
    profile = StepProfile()
    report = StepReport(0.010, 4, 4, StepParts(0.001, 0.002, 0.005, 0.0005, 0.0015))
    profile.add(report)  # too early
    with profile.timed():
        profile.add(report)
        profile.add(report)
    lines = profile.as_markdown().splitlines()
    assert lines[2] == "| whole step | 10.00 | 100.0% |"
    assert lines[5] == "| forward and sampling | 5.00 | 50.0% |"
    assert len(lines) == 8
