"""The syntaxes of well-known families, as data.

They are not in the form of transformers' `response_template`, which cannot express what a server
needs of them: its parser passes a call on only when it is complete, drops the delimiters of a call
that is malformed and raises for its JSON, ends a call at a delimiter that stands in one of its
strings, and cannot find calls that no delimiter announces. Nor can a grammar be made of it.

Sources: the families' own chat templates, and the tool parsers of vLLM and SGLang for how models
depart from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from llmserve.text.output.calls.gemma_calls import GemmaCalls
from llmserve.text.output.calls.header_calls import HeaderCalls
from llmserve.text.output.calls.object_calls import ObjectCalls
from llmserve.text.output.calls.python_calls import PythonCalls
from llmserve.text.output.calls.tag_calls import TagCalls
from llmserve.text.output.harmony import HarmonySyntax
from llmserve.text.output.syntax import FamilySyntax, MarkedSyntax
from llmserve.text.output.thinking import Thinking

THINK: Final = Thinking("<think>", "</think>")

HERMES: Final = MarkedSyntax("hermes", ObjectCalls(), THINK)

QWEN_XML: Final = MarkedSyntax(
    "qwen_xml",
    TagCalls(
        begin="<tool_call>",
        end="</tool_call>",
        name_begin="<function=",
        name_end=">",
        key_begin="<parameter=",
        key_end=">",
        value_end="</parameter>",
        call_end="</function>",
        space="\n",
        value_space="\n",
        also=("<function=",),
    ),
    THINK,
)

GLM: Final = MarkedSyntax(
    "glm",
    TagCalls(
        begin="<tool_call>",
        end="</tool_call>",
        name_begin="",
        name_end="",
        key_begin="<arg_key>",
        key_end="</arg_key>\n<arg_value>",
        value_end="</arg_value>",
    ),
    THINK,
)

MINIMAX: Final = MarkedSyntax(
    "minimax",
    TagCalls(
        begin="<minimax:tool_call>",
        end="</minimax:tool_call>",
        name_begin='<invoke name="',
        name_end='">',
        key_begin='<parameter name="',
        key_end='">',
        value_end="</parameter>",
        call_end="</invoke>",
        space="\n",
    ),
    THINK,
)

SEED_THINK: Final = Thinking("<seed:think>", "</seed:think>")

SEED: Final = MarkedSyntax(
    "seed",
    TagCalls(
        begin="<seed:tool_call>",
        end="</seed:tool_call>",
        name_begin="<function=",
        name_end=">",
        key_begin="<parameter=",
        key_end=">",
        value_end="</parameter>",
        call_end="</function>",
        space="\n",
    ),
    SEED_THINK,
)

LLAMA_JSON: Final = MarkedSyntax(
    "llama_json",
    ObjectCalls(
        begin="", end="", space="", key="parameters", between=None, also=("<|python_tag|>",)
    ),
)

LLAMA_PYTHON: Final = MarkedSyntax("llama_python", PythonCalls())

MISTRAL: Final = MarkedSyntax(
    "mistral",
    HeaderCalls(
        begin="",
        end="",
        call_begin="[TOOL_CALLS]",
        call_end="",
        head="{name}[ARGS]",
        extra=r"(?:\[CALL_ID\]\w*+)?",
        special=("[ARGS]", "[CALL_ID]"),
    ),
    Thinking("[THINK]", "[/THINK]"),
    has_short_ids=True,
)

MISTRAL_JSON: Final = MarkedSyntax(
    "mistral_json",
    ObjectCalls(
        begin="[TOOL_CALLS]", end="", space="", in_list=True, between=None, ends_reasoning=True
    ),
    Thinking("[THINK]", "[/THINK]"),
    has_short_ids=True,
)

DEEPSEEK: Final = MarkedSyntax(
    "deepseek",
    HeaderCalls(
        begin="<｜tool▁calls▁begin｜>",
        end="<｜tool▁calls▁end｜>",
        call_begin="<｜tool▁call▁begin｜>",
        call_end="<｜tool▁call▁end｜>",
        head="function<｜tool▁sep｜>{name}\n```json\n",
        tail="\n```",
        separator="\n",
        special=("<｜tool▁sep｜>",),
    ),
    THINK,
)

DEEPSEEK_V3_1: Final = MarkedSyntax(
    "deepseek_v3_1",
    HeaderCalls(
        begin="<｜tool▁calls▁begin｜>",
        end="<｜tool▁calls▁end｜>",
        call_begin="<｜tool▁call▁begin｜>",
        call_end="<｜tool▁call▁end｜>",
        head="{name}<｜tool▁sep｜>",
        special=("<｜tool▁sep｜>",),
    ),
    THINK,
)

KIMI: Final = MarkedSyntax(
    "kimi",
    HeaderCalls(
        begin="<|tool_calls_section_begin|>",
        end="<|tool_calls_section_end|>",
        call_begin="<|tool_call_begin|>",
        call_end="<|tool_call_end|>",
        head="functions.{name}:{index}<|tool_call_argument_begin|>",
        id_format="functions.{name}:{index}",
        special=("<|tool_call_argument_begin|>",),
    ),
    THINK,
)

GRANITE: Final = MarkedSyntax(
    "granite",
    ObjectCalls(begin="<|tool_call|>", end="", space="", in_list=True, between=None),
    replace(THINK, around=("<response>", "</response>")),
)

PHI_4: Final = MarkedSyntax(
    "phi_4",
    ObjectCalls(begin="<|tool_call|>", end="<|/tool_call|>", space="", in_list=True, between=None),
    THINK,
)

NEMOTRON: Final = MarkedSyntax(
    "nemotron",
    ObjectCalls(begin="<TOOLCALL>", end="</TOOLCALL>", space="", in_list=True, between=None),
    THINK,
)

JAMBA: Final = MarkedSyntax(
    "jamba",
    ObjectCalls(begin="<tool_calls>", end="</tool_calls>", in_list=True, between=None),
    THINK,
)

GEMMA_4: Final = MarkedSyntax("gemma_4", GemmaCalls(), Thinking("<|channel>thought", "<channel|>"))

HARMONY: Final = HarmonySyntax()

GENERIC: Final = replace(HERMES, name="generic")
"""For models without a syntax of their own, whose prompts show them this one."""

FAMILIES: Final[dict[str, FamilySyntax]] = {
    family.name: family
    for family in (
        HERMES,
        QWEN_XML,
        GLM,
        MINIMAX,
        SEED,
        LLAMA_JSON,
        LLAMA_PYTHON,
        MISTRAL,
        MISTRAL_JSON,
        DEEPSEEK,
        DEEPSEEK_V3_1,
        KIMI,
        GRANITE,
        PHI_4,
        NEMOTRON,
        JAMBA,
        GEMMA_4,
        HARMONY,
        GENERIC,
    )
}
"""By the name that `model.toml` gives them."""
