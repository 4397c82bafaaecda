"""A text completion's events in, OpenAI's bytes out."""

from __future__ import annotations

import json

from scripted_generation import ScriptedGeneration

from llmserve.api.openai.completion_writer import CompletionWriter
from llmserve.domain import Delta, Event, Finish, FinishReason, Started, TokenLogprobs, Usage
from llmserve.service import Answer

FINISH = Finish(FinishReason.LENGTH, Usage(3, 2))


def writer(count: int = 1) -> CompletionWriter:
    generations = [ScriptedGeneration() for _ in range(count)]
    return CompletionWriter(generations, choices_per_prompt=1)  # type: ignore[arg-type]


def test_a_stream_is_texts_without_an_opening() -> None:
    events: list[Event] = [Started(3), Delta("a", (7,)), Delta("", (8,)), FINISH]
    completion = writer()
    frames = [frame for event in events for frame in completion.frames(0, event)]
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames]
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}],
        [
            {
                "index": 0,
                "text": "",
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
    ]
    assert {(chunk["id"], chunk["object"]) for chunk in chunks} == {("cmpl-r1", "text_completion")}


def test_offsets_go_on_from_chunk_to_chunk_and_each_choice_has_its_own() -> None:
    completion = writer(2)
    offsets = []
    for index in (0, 0, 1):
        delta = Delta("a", (97,), (TokenLogprobs(97, -0.5),))
        [frame] = completion.frames(index, delta)
        [choice] = json.loads(frame.removeprefix(b"data: "))["choices"]
        offsets.append((choice["index"], choice["logprobs"]["text_offset"]))
    assert offsets == [(0, [0]), (0, [1]), (1, [0])]


def test_a_whole_answer_counts_every_prompt() -> None:
    body = writer(2).whole([Answer(text, (7,), FINISH) for text in ("a", "b")])
    assert (body["id"], body["object"]) == ("cmpl-r1", "text_completion")
    assert [choice["text"] for choice in body["choices"]] == ["a", "b"]
    assert body["usage"]["prompt_tokens"] == 6
