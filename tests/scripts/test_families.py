"""scripts/families: the table of the engines' page is held to what is so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from causal_families import __main__ as command
from causal_families import attempt as attempts
from causal_families.attempt import LENGTHS, NEW_TOKENS, Answer, attempt, compared
from causal_families.launches import launches_per_layer
from causal_families.names import family_names
from causal_families.outcome import Outcome
from causal_families.small_config import small_config
from causal_families.sweep import sweep
from causal_families.table import PAGE, read_table, reason, write_table

LEADING = (
    "deepseek_v3", "gemma2", "gemma3_text", "glm4", "gpt_oss", "granite", "lfm2", "llama",
    "llama4_text", "mamba2", "mistral", "mixtral", "nemotron_h", "olmo2", "phi3", "qwen2", "qwen3",
    "qwen3_5_text", "qwen3_moe", "qwen3_next",
)  # fmt: skip
ALL = os.environ.get("FAMILIES") == "all"
"""Half an hour: `FAMILIES=all scripts/test tests/scripts/test_families.py`."""


def test_the_table_has_every_family() -> None:
    assert sorted(read_table(PAGE)) == family_names()


@pytest.mark.parametrize("family", family_names() if ALL else LEADING)
def test_the_table_tells_the_truth(family: str, tmp_path: Path) -> None:
    lengths, new_tokens = (LENGTHS, NEW_TOKENS) if ALL else ((3, 71), 6)
    told = read_table(PAGE)[family]
    found = attempt(family, tmp_path, lengths, new_tokens)
    assert (found.engine, found.equality) == (told.engine, told.equality)
    assert reason(found.why) == told.why


def test_an_answer_that_differs_is_told_where() -> None:
    def verdict(answer: Answer | str) -> str:
        return compared([[1, 2, 3]], [Answer([5, 6], [-1.0, -2.0])], [answer])

    assert verdict(Answer([5, 6], [-1.0, -2.0])) == "exact"
    assert verdict(Answer([5, 7], [-1.0, -2.1])) == "a prompt of 3 tokens: token 2 differs"
    assert verdict(Answer([5, 7], [-1.0, -2.00001])) == "exact"  # they are as likely
    assert "differ by 0.5" in verdict(Answer([5, 7], [-1.5, -2.0]))
    assert verdict(Answer([5], [-1.0])) == "a prompt of 3 tokens: token 2 differs"
    assert "differ by 0.5" in verdict(Answer([5, 6], [-1.0, -2.5]))
    assert "differ by nan" in verdict(Answer([5, 6], [-1.0, float("nan")]))
    assert verdict("too much") == "a prompt of 3 tokens: too much"


def test_a_family_of_which_no_model_can_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(family: str) -> None:
        raise KeyError("no such\nnumber")

    monkeypatch.setattr(attempts, "small_config", impossible)
    outcome = attempt("llama", tmp_path)
    assert outcome == Outcome("llama", "none", "no tiny model: KeyError: 'no such\\nnumber'")


def test_a_process_that_ends_or_hangs_costs_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import json, sys, time\n"
        "for name in sys.argv[1:]:\n"
        "    if name == 'crash': sys.exit(3)\n"
        "    if name == 'hang': time.sleep(60)\n"
        "    told = {'family': name, 'engine': 'batching', 'why': '', 'equality': 'exact'}\n"
        "    print(json.dumps(told), flush=True)\n"
    )

    def found(families: Sequence[str]) -> list[tuple[str, str]]:
        told = sweep(families, 0.5, ("-c", script), start_seconds=20)
        return [(outcome.family, outcome.why) for outcome in told]

    assert found(["a", "crash", "b"]) == [
        ("a", ""), ("crash", "its process ended with status 3"), ("b", ""),
    ]  # fmt: skip
    assert found(["a", "hang", "b"]) == [("a", ""), ("hang", "no answer within 0.5 s"), ("b", "")]


def test_a_table_keeps_the_families_that_were_not_tried(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "# Engines\n<!-- scripts/families writes from here -->\n<!-- to here -->\nEnd\n"
    )
    one = Outcome("one", "batching", "auto: the model supports it; why | so", "exact", 4.4)
    write_table(page, {"one": one})
    write_table(page, {"two": Outcome("two", "none", "no tiny model: so")})
    assert "2 names: 1 batching (1 exact), 1 none" in page.read_text()
    assert page.read_text().endswith("<!-- to here -->\nEnd\n")
    assert read_table(page) == {
        "one": Outcome("one", "batching", "why / so", "exact", 4.0),
        "two": Outcome("two", "none", "no tiny model: so"),
    }
    page.write_text("# Engines\n")
    with pytest.raises(ValueError, match="has no lines"):
        write_table(page, {})


def test_every_layer_kind_of_a_family_is_in_its_tiny_model() -> None:
    config = small_config("qwen3_next")
    assert set(config.layer_types) == {"linear_attention", "full_attention"}
    assert config.num_hidden_layers == len(config.layer_types) == 4
    assert config.head_dim == 256
    assert config.vocab_size == 1536


def test_launches_are_those_of_a_layer() -> None:
    # As tests/engines/batching/compute/test_families_on_meta.py has it, and a second for the cache.
    assert launches_per_layer(small_config("llama")) == 40


def test_what_is_known_is_not_tried_again_and_what_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, tried = tmp_path / "README.md", []
    page.write_text("<!-- scripts/families writes from here -->\n<!-- to here -->\n")

    def fake(families: Sequence[str], seconds: float) -> Iterator[Outcome]:
        for family in families:
            tried.append(family)
            yield Outcome(
                family, "batching", "", "exact" if "llama" in family else "token 3 differs"
            )

    monkeypatch.setattr(command, "sweep", fake)

    def run(*arguments: str) -> int:
        tried.clear()
        files = ("--out", str(tmp_path / "known.jsonl"), "--page", str(page))
        return command.main([*files, *arguments])

    assert run("--only", "llama") == 0
    assert run("--only", "llama,gpt2") == 1
    assert tried == ["gpt2"]
    assert "WRONG: gpt2, served by batching: token 3 differs" in capsys.readouterr().out
    assert run("--only", "llama", "--again") == 0
    assert tried == ["llama"]
    assert run("--only", "llama", "--variants", "2") == 0
    assert tried == ["llama#1", "llama#2"]
    assert sorted(read_table(page)) == ["gpt2", "llama"]
    with pytest.raises(SystemExit):
        run("--only", "lama")
    assert "no causal language model called lama" in capsys.readouterr().err


def test_a_variant_differs_from_its_family_and_is_the_same_each_time() -> None:
    assert small_config("gemma2#3").to_dict() == small_config("gemma2#3").to_dict()
    windows = {small_config(f"gemma2#{seed}").sliding_window for seed in range(1, 9)}
    assert len(windows) > 1
