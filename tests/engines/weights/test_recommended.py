"""generation_config.json: every field that asks for something is followed, or told."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmserve.domain import AnswerRules, ModelSpec, SamplingFields, SamplingParams
from llmserve.engines.weights.loading import load_model
from llmserve.engines.weights.recommended import Recommended, read_recommended

EOS, PAD = 2, 0
"""`<|im_end|>`, the tokenizer's own, and `<|endoftext|>`."""
VOCAB = 500


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def read(
    tokenizer: Any, folder: Path, model_config: dict[str, Any] | None = None, **fields: Any
) -> Recommended:
    (folder / "config.json").write_text(json.dumps(model_config or {}))
    (folder / "generation_config.json").write_text(json.dumps(fields))
    return read_recommended(folder, tokenizer, max_context=2048, vocab=VOCAB)


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
        ({"top_k": -1}, SamplingFields(top_k=0)),
        ({"temperature": 1, "top_p": 1}, SamplingFields(temperature=1.0, top_p=1.0)),
        ({"temperature": None, "top_k": None}, SamplingFields()),
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
        bad_words_ids=[[6], [7], [EOS], [5, 8], [8, EOS]],
    )
    assert recommended.rules == AnswerRules(
        stop=("\nUser:",), suppressed=(5, 6, 7), banned=((5, 8), (8, EOS))
    )


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
        (
            {"do_sample": False, "temperature": 0.6},
            "temperature = 0.6 (do_sample is false)",
        ),
        (
            {"stop_strings": ["<|im_end|>\n"]},
            'stop_strings = ["<|im_end|>\\n"] (answers contain no special tokens)',
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


BAD: list[tuple[dict[str, Any], str]] = [
    ({"temperature": "hot", "do_sample": True}, 'temperature = "hot" (should be a valid number)'),
    ({"temperature": math.nan}, "temperature = NaN (should be a finite number)"),
    ({"temperature": math.inf}, "temperature = Infinity (should be a finite number)"),
    ({"temperature": -1}, "temperature = -1 (should be greater than or equal to 0)"),
    ({"temperature": True}, "temperature = true (should be a valid number)"),
    ({"top_k": 2.5}, "top_k = 2.5 (should be a valid integer"),
    ({"top_k": 10**30}, "top_k = 1000000000000000000000000000000 (should be less than"),
    ({"top_p": 0}, "top_p = 0 (should be greater than 0)"),
    ({"min_p": [0.1]}, "min_p = [0.1] (should be a valid number)"),
    ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0 (should be greater than 0)"),
    ({"repetition_penalty": -2.0}, "repetition_penalty = -2.0 (should be greater than 0)"),
    ({"do_sample": "yes"}, 'do_sample = "yes" (should be a valid boolean)'),
    ({"max_new_tokens": "5"}, 'max_new_tokens = "5" (should be a valid integer)'),
    ({"max_new_tokens": 0}, "max_new_tokens = 0 (should be greater than or equal to 1)"),
    ({"min_new_tokens": -1}, "min_new_tokens = -1 (should be greater than or equal to 0)"),
    ({"max_length": "abc"}, 'max_length = "abc"'),
    ({"bad_words_ids": [1, 2]}, "bad_words_ids = [1, 2] (should be a valid list)"),
    ({"bad_words_ids": [[]]}, "bad_words_ids = [[]] (List should have at least 1 item"),
    ({"bad_words_ids": [[5000]]}, "bad_words_ids = [5000] (outside the vocabulary of 500 tokens)"),
    ({"suppress_tokens": ["a"]}, 'suppress_tokens = ["a"] (should be a valid integer)'),
    ({"suppress_tokens": [[1]]}, "suppress_tokens = [[1]] (should be a valid integer)"),
    ({"suppress_tokens": 5}, "suppress_tokens = 5 (should be a valid list)"),
    (
        {"suppress_tokens": [999999, -7]},
        "suppress_tokens = [999999, -7] (outside the vocabulary of 500 tokens)",
    ),
    ({"eos_token_id": "x"}, 'eos_token_id = "x" (should be a valid integer)'),
    ({"eos_token_id": 5000}, "eos_token_id = [5000] (outside the vocabulary of 500 tokens)"),
    ({"stop_strings": [1]}, "stop_strings = [1] (should be a valid string)"),
    ({"num_beams": "many"}, 'num_beams = "many"'),
    ({"early_stopping": [1]}, "early_stopping = [1]"),
]


@pytest.mark.parametrize(("fields", "told"), BAD)
def test_a_bad_value_is_left_out_and_told(
    tokenizer: Any, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    recommended = read(tokenizer, tmp_path, **{"top_p": 0.5, "min_length": 0} | fields)
    (line,) = recommended.rules.ignored
    assert line.startswith(told)
    expected = SamplingFields(top_p=None if "top_p" in fields else 0.5)
    assert recommended.sampling == expected, "the others hold"
    assert recommended.rules == AnswerRules(ignored=(line,))
    assert recommended.eos_ids == (EOS,)


def test_an_end_that_has_no_logit_is_none(tokenizer: Any, tmp_path: Path) -> None:
    recommended = read(tokenizer, tmp_path, {"eos_token_id": [9, VOCAB]})
    assert set(recommended.eos_ids) == {9, EOS}
    (line,) = recommended.rules.ignored
    assert line == "config.json: eos_token_id = [500] (outside the vocabulary of 500 tokens)"
    smaller = read_recommended(tmp_path, tokenizer, max_context=2048, vocab=EOS)
    assert smaller.eos_ids == ()


def test_of_a_list_the_good_ids_hold(tokenizer: Any, tmp_path: Path) -> None:
    recommended = read(
        tokenizer,
        tmp_path,
        suppress_tokens=[5, VOCAB, VOCAB - 1],
        bad_words_ids=[[6], [-1], [5, VOCAB], [5, 6]],
        eos_token_id=[7, VOCAB],
    )
    assert recommended.rules.suppressed == (5, VOCAB - 1, 6)
    assert recommended.rules.banned == ((5, 6),)
    assert set(recommended.eos_ids) == {7, EOS}
    assert len(recommended.rules.ignored) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{{", "generation_config.json cannot be read: Expecting property name"),
        ("", "generation_config.json cannot be read: Expecting value"),
        ("[1,2]", "generation_config.json cannot be read: it is a list, not an object"),
        ("null", "generation_config.json cannot be read: it is null, not an object"),
        ("[" * 10**5, "generation_config.json cannot be read: maximum recursion"),
        ('{"top_k": ' + "9" * 5000 + "}", "generation_config.json cannot be read: Exceeds"),
        ("\ud800", "generation_config.json cannot be read: 'utf-8' codec"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tokenizer: Any, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    (tmp_path / "generation_config.json").write_text(text, errors="surrogatepass")
    recommended = read_recommended(tmp_path, tokenizer, max_context=2048, vocab=VOCAB)
    (line,) = recommended.rules.ignored
    assert line.startswith(told)
    assert len(line) < 300
    assert set(recommended.eos_ids) == {9, EOS}
    assert recommended.sampling == SamplingFields()


def test_old_configs_say_it_in_config_json(tokenizer: Any, tmp_path: Path) -> None:
    config = {"temperature": 0.7, "top_k": "5", "num_beams": 2, "eos_token_id": ["x", 9]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    recommended = read_recommended(tmp_path, tokenizer, max_context=2048, vocab=VOCAB)
    assert recommended.sampling == SamplingFields(temperature=0.7)
    assert set(recommended.eos_ids) == {9, EOS}
    assert set(recommended.rules.ignored) == {
        'config.json: eos_token_id = ["x"] (should be valid integers)',
        'eos_token_id = ["x", 9] (should be a valid integer)',
        'top_k = "5" (should be a valid integer)',
        "num_beams = 2",
    }


def test_what_config_json_cannot_say_is_told(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_new_tokens": "5", "eos_token_id": 9}')
    recommended = read_recommended(tmp_path, tokenizer, max_context=2048, vocab=VOCAB)
    (line,) = recommended.rules.ignored
    assert line.startswith("what config.json says about generation cannot be read: TypeError")
    assert set(recommended.eos_ids) == {9, EOS}


@pytest.mark.parametrize("text", [json.dumps(fields) for fields, _ in BAD] + ["{{{", "[1,2]"])
def test_a_model_with_a_bad_file_loads(tiny_model: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text(text)
    loaded = load_model(ModelSpec("tiny", path=folder, device="cpu"), folder, lambda progress: None)
    assert len(loaded.rules.ignored) == 1
    assert EOS in loaded.eos_ids


def test_an_old_config_recommends_what_transformers_reads_in_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"top_k": 7, "temperature": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    theirs = AutoModelForCausalLM.from_pretrained(folder).generation_config
    loaded = load_model(ModelSpec("tiny", path=folder, device="cpu"), folder, lambda progress: None)
    assert (loaded.sampling.top_k, loaded.sampling.temperature) == (7, 0.5)
    assert (theirs.top_k, theirs.temperature) == (7, 0.5)


def test_a_models_own_generate_is_taken_where_its_code_is_trusted(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model, folder)
    (folder / "custom_generate").mkdir()
    code = "def generate(model, *args, **kwargs):\n    return 'its own'\n"
    (folder / "custom_generate" / "generate.py").write_text(code)
    for is_trusted in (False, True):
        spec = ModelSpec("tiny", path=folder, device="cpu", trust_remote_code=is_trusted)
        loaded = load_model(spec, folder, lambda progress: None)
        is_custom = not hasattr(loaded.model.generate, "__self__")
        assert is_custom is is_trusted


def test_rules_join_what_a_request_asks_for() -> None:
    rules = AnswerRules(stop=("b",), suppressed=(5,))
    asked = SamplingParams(stop=("a",), logit_bias=((5, 90.0), (6, 1.0)))
    ruled = asked.under(rules)
    assert ruled.stop == ("a", "b")
    assert ruled.logit_bias == ((5, 90.0), (6, 1.0), (5, -math.inf))
    assert SamplingParams(ignore_eos=True).under(rules).stop == ()
    assert asked.under(AnswerRules(ignored=("x",))) == asked
