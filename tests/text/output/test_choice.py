"""Which syntax a model has, and why."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from marked_tokenizer import marked_tokenizer

from llmserve.errors import ConfigurationError
from llmserve.text.output.choice import choose_syntax
from llmserve.text.output.families import FAMILIES
from llmserve.text.output.syntax import MarkedSyntax

HERMES_TEMPLATE = {
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>"},
        "content": {},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
    },
}
OTHER_TEMPLATE: dict[str, Any] = {
    "start_anchor": "<bot>",
    "fields": {"content": {}, "tool_calls": {"open": "[[", "close": "]]", "content": "json"}},
}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("<|start|>assistant<|channel|>final<|message|>", "harmony"),
        ("'<|tool_call>call:' + name", "gemma_4"),
        ("<|tool_calls_section_begin|>", "kimi"),
        ("<｜tool▁calls▁begin｜>{{ name }}\\n```json", "deepseek"),
        ("<｜tool▁calls▁begin｜>{{ name }}", "deepseek_v3_1"),
        ("[TOOL_CALLS]{{ name }}[ARGS]", "mistral"),
        ("[TOOL_CALLS] [", "mistral_json"),
        ("<minimax:tool_call>", "minimax"),
        ("<seed:tool_call>", "seed"),
        ("<TOOLCALL>[", "nemotron"),
        ("<tool_calls>[", "jamba"),
        ("<tool_call>\\n<function=f>\\n<parameter=x>", "qwen_xml"),
        ("<tool_call>{{ name }}\\n<arg_key>", "glm"),
        ("<tool_call>\\n{\"name\": <function-name>", "hermes"),
        ("<|tool|>{{ tools }}<|/tool|>", "phi_4"),
        ("<|start_of_role|>assistant<|end_of_role|><|tool_call|>", "granite"),
        ("[func_name1(params_name1=value)]", "llama_python"),
        ('{"name": function name, "parameters": dictionary}', "llama_json"),
        ('\'{"name": "\' + call.name + \'", "parameters": \'', "llama_json"),
        ("{{ messages }}", "generic"),
    ],
)  # fmt: skip
def test_a_chat_template_shows_the_syntax(template: str, name: str) -> None:
    chosen = choose_syntax(marked_tokenizer(()), template, "llama")
    assert chosen.name == name
    assert chosen.is_own == (name != "generic")
    assert ("chat template has" in chosen.why) == chosen.is_own


def test_a_type_has_a_syntax_where_the_template_shows_none() -> None:
    chosen = choose_syntax(marked_tokenizer(()), None, "gpt_oss")
    assert (chosen.name, chosen.why) == ("harmony", "the model's type is gpt_oss")


def test_a_model_has_reasoning_if_it_knows_the_delimiters() -> None:
    assert not choose_syntax(marked_tokenizer(()), "<tool_call>", "qwen2").has_reasoning
    assert choose_syntax(marked_tokenizer(()), "<tool_call> </think>", "qwen3").has_reasoning
    known = marked_tokenizer((), ("[THINK]", "[/THINK]"))
    chosen = choose_syntax(known, "{{ messages }}", "mistral")
    assert isinstance(chosen.syntax, MarkedSyntax)
    assert chosen.syntax.thinking is not None
    assert (chosen.name, chosen.syntax.thinking.start) == ("generic", "[THINK]")


def test_an_operator_comes_first() -> None:
    hf = deepcopy(marked_tokenizer(()))
    hf.response_template = OTHER_TEMPLATE
    chosen = choose_syntax(hf, "[TOOL_CALLS]", "llama", "hermes")
    assert (chosen.name, chosen.why) == ("hermes", "model.toml names it")
    chosen = choose_syntax(hf, "[TOOL_CALLS]", "llama", json.dumps(OTHER_TEMPLATE))
    assert (chosen.name, chosen.why) == ("response_template", "the output.syntax in model.toml")


def test_then_comes_the_template_of_the_tokenizer() -> None:
    hf = deepcopy(marked_tokenizer(()))
    hf.response_template = OTHER_TEMPLATE
    chosen = choose_syntax(hf, "[TOOL_CALLS]", "llama")
    assert (chosen.name, chosen.why) == (
        "response_template",
        "the response_template of the tokenizer",
    )


def test_a_template_that_reads_like_a_family_is_read_as_that_family() -> None:
    hf = deepcopy(marked_tokenizer(()))
    hf.response_template = HERMES_TEMPLATE
    chosen = choose_syntax(hf, None, "qwen3")
    assert chosen.syntax is FAMILIES["hermes"]
    assert chosen.why == "the response_template of the tokenizer reads like it"


def test_a_template_that_is_not_valid_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"output\.syntax in model\.toml"):
        choose_syntax(marked_tokenizer(()), None, "llama", '{"fields": {"content": {}}}')
