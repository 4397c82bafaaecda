"""Messages of gpt-oss: channels, recipients, and headers in any order."""

from __future__ import annotations

import pytest
from reading import TOOLS, Read, read

from llmserve.text.output.families import HARMONY

OPENING = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.ping <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.ping<|message|>",
        "<|channel|>commentary to=functions.ping json<|message|>",
        " to=functions.ping<|channel|>commentary<|constrain|>json<|message|>",
        "<|channel|>analysis to=functions.ping <|message|>",
    ],
)
def test_a_message_to_a_function_is_a_call(header: str) -> None:
    written = f"{header} {{}} <|call|>"
    expected = Read("", "", (("ping", "{}"),))
    assert read(HARMONY, written, range(len(written)), opening=OPENING) == expected


def test_analysis_is_reasoning_and_the_final_channel_is_text() -> None:
    written = f"{ANALYSIS}<|channel|>final<|message|>Yes. <|return|>"
    assert read(HARMONY, written, range(len(written)), opening=OPENING) == Read("Yes.", "Hm.")


def test_messages_of_one_kind_are_joined_by_an_empty_line() -> None:
    spoken = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
    written = f"{ANALYSIS}{spoken}{ANALYSIS}<|channel|>final<|message|>Yes."
    assert read(HARMONY, written, opening=OPENING) == Read("I look.\n\nYes.", "Hm.\n\nHm.")


def test_a_message_to_something_else_is_text() -> None:
    written = "<|channel|>commentary to=python<|message|>1 + 1<|call|>"
    assert read(HARMONY, written, opening=OPENING).text == f"{OPENING}{written[:-8]}"
    assert read(HARMONY, written, opening=OPENING).calls == ()


def test_text_without_a_header_is_text() -> None:
    assert read(HARMONY, "Yes.", opening="") == Read("Yes.")
    assert read(HARMONY, "Yes.<|channel|>final<|message|>No.") == Read("Yes.\n\nNo.")


def test_an_answer_that_goes_on_in_its_last_message_needs_no_header() -> None:
    opening = f"{OPENING}<|channel|>final<|message|>The answer"
    assert read(HARMONY, " is 42.", opening=opening) == Read("is 42.")


def test_a_header_without_an_end_is_left_out_unless_it_calls() -> None:
    assert read(HARMONY, "<|channel|>fin", opening=OPENING) == Read("")
    cut = "<|channel|>commentary to=functions.ping"
    assert read(HARMONY, cut, opening=OPENING).text == OPENING + cut


def test_a_header_that_is_too_long_is_text() -> None:
    written = "<|channel|>" + "x" * 2000 + "<|message|>"
    assert read(HARMONY, written, range(len(written))).text == written


def test_without_tools_a_call_is_text() -> None:
    written = "<|channel|>commentary to=functions.ping<|message|>{}"
    assert read(HARMONY, written, tools=None) == Read(written)
    assert read(HARMONY, written, tools=TOOLS) == Read("", "", (("ping", "{}"),))


def test_an_answer_starts_in_reasoning_unless_its_channel_is_final() -> None:
    assert HARMONY.starts_in_reasoning(OPENING)
    assert not HARMONY.starts_in_reasoning(f"{OPENING}<|channel|>final<|message|>")
