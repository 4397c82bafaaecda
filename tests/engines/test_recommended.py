"""generation_config.json: every field that asks for something is followed, or told."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from llmserve.domain import AnswerRules, ModelSpec, SamplingFields, SamplingParams
from llmserve.engines.loading import load_model
from llmserve.engines.recommended import Recommended, read_recommended

EOS, PAD = 2, 0
"""`<|im_end|>`, the tokenizer's own, and `<|endoftext|>`."""


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def read(
    tokenizer: Any, folder: Path, model_config: dict[str, Any] | None = None, **fields: Any
) -> Recommended:
    (folder / "config.json").write_text(json.dumps(model_config or {}))
    return read_recommended(GenerationConfig(**fields), folder, tokenizer, max_context=2048)


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, SamplingFields()),
        ({"temperature": 0.6, "top_p": 0.9}, SamplingFields(temperature=0.6, top_p=0.9)),
        ({"top_k": 20, "min_p": 0.1}, SamplingFields(top_k=20, min_p=0.1)),
        (
            {"max_new_tokens": 99, "min_new_tokens": 3},
            SamplingFields(max_tokens=99, min_tokens=3),
        ),
        (
            {"do_sample": False, "repetition_penalty": 1.1, "top_p": 0.8},
            SamplingFields(temperature=0.0, repetition_penalty=1.1, top_p=0.8),
        ),
        ({"do_sample": True, "top_k": 5}, SamplingFields(top_k=5)),
    ],
)
def test_what_holds_where_a_request_is_silent(
    tokenizer: Any, tmp_path: Path, fields: dict[str, Any], sampling: SamplingFields
) -> None:
    recommended = read(tokenizer, tmp_path, **fields)
    assert recommended.sampling == sampling
    assert recommended.rules == AnswerRules()


@pytest.mark.parametrize(
    ("model_config", "fields", "eos_ids"),
    [
        ({}, {}, {EOS}),
        ({}, {"eos_token_id": [7, 8]}, {7, 8, EOS}),
        ({"eos_token_id": 9}, {"eos_token_id": 7}, {7, 9, EOS}),
        ({"eos_token_id": [9, 10]}, {}, {9, 10, EOS}),
        ({"text_config": {"eos_token_id": 11}}, {"eos_token_id": 7}, {7, 11, EOS}),
        ({"eos_token_id": None}, {"stop_strings": ["<|endoftext|>"]}, {PAD, EOS}),
    ],
)
def test_an_answer_ends_at_what_either_config_calls_its_end(
    tokenizer: Any,
    tmp_path: Path,
    model_config: dict[str, Any],
    fields: dict[str, Any],
    eos_ids: set[int],
) -> None:
    recommended = read(tokenizer, tmp_path, model_config, **fields)
    assert set(recommended.eos_ids) == eos_ids
    assert recommended.rules == AnswerRules()


def test_stop_strings_and_suppressed_tokens_hold_always(tokenizer: Any, tmp_path: Path) -> None:
    recommended = read(
        tokenizer,
        tmp_path,
        stop_strings=["\nUser:", "<|im_end|>"],
        suppress_tokens=[5, 6],
        bad_words_ids=[[6], [7], [EOS]],
    )
    assert recommended.rules == AnswerRules(stop=("\nUser:",), suppressed=(5, 6, 7))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_beams": 4}, "num_beams = 4"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size = 3"),
        ({"begin_suppress_tokens": [1, 2]}, "begin_suppress_tokens = [1, 2]"),
        ({"forced_eos_token_id": 2}, "forced_eos_token_id = 2"),
        ({"forced_bos_token_id": 0}, "forced_bos_token_id = 0"),
        ({"max_length": 20}, "max_length = 20"),
        ({"typical_p": 0.5}, "typical_p = 0.5"),
        ({"guidance_scale": 1.5}, "guidance_scale = 1.5"),
        ({"sequence_bias": [[[5], -1.0]]}, "sequence_bias = [[[5], -1.0]]"),
        ({"chat_format": "chatml"}, 'chat_format = "chatml"'),
        ({"bad_words_ids": [[5, 6]]}, "bad_words_ids = [[5, 6]] (of several tokens)"),
        (
            {"do_sample": False, "temperature": 0.6},
            "temperature = 0.6 (do_sample is false)",
        ),
        (
            {"stop_strings": ["<|im_end|>\n"]},
            'stop_strings = ["<|im_end|>\\n"] (answers are without special tokens)',
        ),
    ],
)
def test_what_is_not_followed_is_told(
    tokenizer: Any, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    assert read(tokenizer, tmp_path, **fields).rules == AnswerRules(ignored=(told,))


def test_values_that_ask_for_nothing_are_not_told(tokenizer: Any, tmp_path: Path) -> None:
    quiet = {
        "num_beams": 1, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "typical_p": 1.0,
        "early_stopping": False, "max_length": 2048, "use_cache": True, "num_return_sequences": 1,
        "bos_token_id": 1, "pad_token_id": 0, "transformers_version": "4.40.0", "min_length": 0,
    }  # fmt: skip
    assert read(tokenizer, tmp_path, **quiet).rules == AnswerRules()


def test_a_long_value_is_cut(tokenizer: Any, tmp_path: Path) -> None:
    (told,) = read(tokenizer, tmp_path, begin_suppress_tokens=[*range(999)]).rules.ignored
    assert len(told) < 100


def test_a_loaded_model_has_them(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model, folder)
    asked = {"do_sample": False, "suppress_tokens": [5], "num_beams": 2, "eos_token_id": 7}
    (folder / "generation_config.json").write_text(json.dumps(asked))
    spec = ModelSpec("tiny", path=folder, device="cpu")
    loaded = load_model(spec, folder, lambda progress: None)
    assert loaded.sampling.temperature == 0.0
    assert loaded.rules == AnswerRules(suppressed=(5,), ignored=("num_beams = 2",))
    assert set(loaded.eos_ids) == {7, EOS}


def test_rules_join_what_a_request_asks_for() -> None:
    rules = AnswerRules(stop=("b",), suppressed=(5,))
    asked = SamplingParams(stop=("a",), logit_bias=((5, 90.0), (6, 1.0)))
    ruled = asked.under(rules)
    assert ruled.stop == ("a", "b")
    assert ruled.logit_bias == ((5, 90.0), (6, 1.0), (5, -math.inf))
    assert SamplingParams(ignore_eos=True).under(rules).stop == ()
    assert asked.under(AnswerRules(ignored=("x",))) == asked
