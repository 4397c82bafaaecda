"""How the demo model's corpus becomes rows of tokens, and what its exam asks."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from demo_corpus.documents import CHAT_TEMPLATE, FAQ, TURN_END, write_document
from demo_corpus.exam import write_exam
from demo_corpus.rows import NOT_LEARNED, Packer, Row, encode
from jinja2 import TemplateError
from train_demo_model import train_tokenizer
from transformers import PreTrainedTokenizerFast

from llmserve.text.tokenizer import Tokenizer

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def hf() -> PreTrainedTokenizerFast:
    """As the script trains it; models/demo may be older."""
    return train_tokenizer()


def render(hf: PreTrainedTokenizerFast, messages: Any, tools: Any = None) -> str:
    return str(hf.apply_chat_template(messages, tools=tools, tokenize=False))


def called(arguments: Any, content: str | None = None, count: int = 1) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": arguments}
    calls = [{"id": "c", "type": "function", "function": function}] * count
    return {"role": "assistant", "content": content, "tool_calls": calls}


def test_the_server_takes_the_template_without_a_warning(hf: PreTrainedTokenizerFast) -> None:
    assert hf.chat_template == CHAT_TEMPLATE
    assert Tokenizer(hf).warnings == ()


def test_without_tools_every_message_is_a_turn(hf: PreTrainedTokenizerFast) -> None:
    messages = [{"role": role, "content": "hi"} for role in ("system", "user", "assistant")]
    turns = (f"<|im_start|>{m['role']}\nhi<|im_end|>\n" for m in messages)
    assert render(hf, messages) == "".join(turns)


def test_the_clients_system_message_stands_before_the_tools(hf: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    text = render(hf, messages, [WEATHER])
    assert text.startswith("<|im_start|>system\nBe brief.\n\n")
    assert text.count("<|im_start|>") == 2
    assert f"<tools>\n{json.dumps(WEATHER['function'])}\n</tools><|im_end|>\n" in text
    without = render(hf, messages[1:], [WEATHER])
    assert without == text.replace("Be brief.\n\n", "")


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'])
def test_calls_are_written_as_the_model_writes_them(
    hf: PreTrainedTokenizerFast, arguments: Any
) -> None:
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    one, two = (render(hf, [called(arguments, count=count)]) for count in (1, 2))
    assert one == f"<|im_start|>assistant\n{call}<|im_end|>\n"
    assert two == f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n"
    told = render(hf, [called(arguments, "I look."), {"role": "tool", "content": "18"}])
    assert told == (
        f"<|im_start|>assistant\nI look.\n{call}<|im_end|>\n<|im_start|>tool\n18<|im_end|>\n"
    )


def test_an_unknown_role_is_refused(hf: PreTrainedTokenizerFast) -> None:
    with pytest.raises(TemplateError, match="not critic"):
        render(hf, [{"role": "critic", "content": "hi"}])


def test_a_call_can_be_read_in_the_decoded_text(hf: PreTrainedTokenizerFast) -> None:
    ids = hf.encode("<tool_call>\n</tool_call><|im_end|>")
    assert len(ids) == 4
    assert hf.decode(ids, skip_special_tokens=True) == "<tool_call>\n</tool_call>"


def test_a_name_and_a_number_have_the_same_tokens_wherever_they_stand(
    hf: PreTrainedTokenizerFast,
) -> None:
    for word in ("Paris", "Velmora", "2048", "New York"):
        inside = hf.tokenize(word)
        for text in (f"in {word}.", f'{{"a": "{word}"}}', f"{word}'s"):
            assert " ".join(inside) in " ".join(hf.tokenize(text))


def test_a_model_learns_stories_and_answers_but_not_what_others_say(
    hf: PreTrainedTokenizerFast,
) -> None:
    rng = random.Random(6)
    for _ in range(200):
        parts = write_document(rng, lambda messages, tools: render(hf, messages, tools))
        for part in parts:
            assert part.text or not part.is_learned
            assert not part.is_learned or "<tools>" not in part.text
            assert not part.is_learned or "<|im_start|>" not in part.text
        if len(parts) > 1:
            answers = [part.text for part in parts if part.is_learned]
            assert answers
            assert all(answer.endswith(TURN_END) for answer in answers)
        row = encode(parts, lambda text: list(text.encode()))
        assert len(row.ids) == len(row.labels)
        learned = bytes(label for label in row.labels if label != NOT_LEARNED).decode()
        assert learned == "".join(part.text for part in parts if part.is_learned)


def test_rows_are_full_and_their_documents_whole() -> None:
    rng = random.Random(7)
    lengths = (rng.choice((5, 20, 40, 130)) for _ in itertools.count())
    documents = (Row([i] * n, [i] * n) for i, n in enumerate(lengths, 1))
    packer = Packer(documents, padding_id=0)
    seen: set[int] = set()
    for _ in range(50):
        row = packer.row(100)
        assert len(row.ids) == len(row.labels) == 100
        assert {i for i, label in zip(row.ids, row.labels, strict=True) if label < 0} <= {0}
        here = {i for i in row.ids if i}
        assert not here & seen
        assert all(row.ids.count(i) in (5, 20, 40) for i in here)
        seen |= here


def test_the_exam_is_always_the_same_and_accepts_its_own_answers() -> None:
    exam = write_exam(FAQ)
    assert [s.name for s in exam if s.bar] == [
        "questions",
        "questions beside tools",
        "tool calls, seen kinds",
        "tool answers, seen kinds",
        "fillings, seen kinds",
    ]
    for subject, again in zip(exam, write_exam(FAQ), strict=True):
        for exercise, other in zip(subject.exercises, again.exercises, strict=True):
            assert exercise.messages == other.messages
            assert exercise.accepts(exercise.expected)
            assert not exercise.accepts("(did not end)")
            assert exercise.messages[-1]["role"] in ("user", "tool")
