"""The part of the demo model's corpus that has tools and fillings."""

from __future__ import annotations

import json
import random

from demo_corpus.tool_exam import examine
from demo_corpus.tools import KINDS, NAMES, write_with_tools
from server import DEMO
from transformers import AutoTokenizer

HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def written(count: int, seed: int = 1) -> list[dict[str, object]]:
    rng = random.Random(seed)
    return [write_with_tools(rng, lambda: HELLO) for _ in range(count)]


def test_it_depends_on_the_seed_alone() -> None:
    assert written(50) == written(50)
    assert written(50) != written(50, seed=2)


def test_every_kind_is_offered_and_called_and_answered() -> None:
    text = json.dumps(written(400))
    for kind in KINDS:
        assert f'"name": "{kind.name}", "arguments"' in text
    assert all(name in text for name in NAMES)


def test_a_call_is_of_a_tool_that_is_offered_with_its_parameter() -> None:
    for told in written(300):
        offered = {t["function"]["name"] for t in told.get("tools", ())}  # type: ignore[attr-defined]
        for message in told["messages"]:  # type: ignore[attr-defined]
            for call in message.get("tool_calls", ()):
                [kind] = [k for k in KINDS if k.name == call["function"]["name"]]
                assert kind.name in offered
                assert set(call["function"]["arguments"]) == {kind.parameter}


def test_the_template_writes_tools_calls_and_results() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    [told] = [t for t in written(40) if len(t["messages"]) == 4 and len(t["tools"]) == 1][:1]  # type: ignore[arg-type]
    text = tokenizer.apply_chat_template(told["messages"], tools=told["tools"], tokenize=False)
    assert text.startswith("<|im_start|>system\nTools:\n{")
    assert "<|im_start|>assistant\n<tool_call>\n{" in text
    assert "}\n</tool_call><|im_end|>\n<|im_start|>tool\n{" in text


def test_the_exam_counts_what_is_right() -> None:
    assert examine(lambda messages, tools: "nonsense") == 0.0
