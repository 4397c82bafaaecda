"""Log probabilities as OpenAI writes them: what JSON cannot say, what is held back, whose text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from fake_engine import FakeEngine, LetterTokenizer
from fastapi.testclient import TestClient
from small_bpe import trained_bpe
from transformers import PreTrainedTokenizerFast

from llmserve.api.openai.choices_writer import MAX_LOGPROBS_PER_CHUNK
from llmserve.api.openai.logprobs import CompletionLogprobs
from llmserve.api.token_logprobs import ChatLogprobs
from llmserve.domain import SamplingParams, TokenLogprobs
from llmserve.engines.job import Job
from llmserve.text.spelling import Spelling
from llmserve.text.tokenizer import Tokenizer

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
A = TokenLogprobs(ord("a"), -0.5, ((ord("a"), -0.5), (ord("b"), -1.5)))
B = TokenLogprobs(ord("b"), -2.0, ((ord("c"), -0.25), (ord("d"), -0.75)))
IMPOSSIBLE = TokenLogprobs(ord("x"), float("-inf"), ((ord("y"), 0.0), (ord("z"), float("-inf"))))


@pytest.fixture
def bpe() -> Tokenizer:
    hf = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
    hf.add_special_tokens({"eos_token": "<|end|>"})
    return Tokenizer(hf)


def answers(
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    tokens: Sequence[tuple[str, TokenLogprobs]],
) -> list[SamplingParams]:
    """Have the engine answer every job so; returns the sampling of the jobs that come."""
    asked: list[SamplingParams] = []
    start = engine.start

    def speak(job: Job) -> None:
        for text, told in tokens:
            engine.say(job, text, told if job.task.sampling.logprobs is not None else None)
        engine.finish(job)

    def start_and_speak(job: Job) -> None:
        asked.append(job.task.sampling)
        start(job)
        asyncio.get_running_loop().call_soon(speak, job)

    monkeypatch.setattr(engine, "start", start_and_speak)
    return asked


def streamed(client: TestClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a stream's chunks."""
    lines = client.post(path, json=body | {"stream": True}).text.splitlines()
    frames = [line[6:] for line in lines if line.startswith("data: {")]
    return [choice for frame in frames for choice in json.loads(frame)["choices"]]


def test_minus_infinity_is_the_number_that_openai_has_for_it(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(engine, monkeypatch, [("x", IMPOSSIBLE)])
    body = HELLO | {"logprobs": True, "top_logprobs": 2}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    [entry] = choice["logprobs"]["content"]
    assert entry["logprob"] == -9999.0
    assert [top["logprob"] for top in entry["top_logprobs"]] == [0.0, -9999.0]
    answer = client.post("/v1/completions", json={"prompt": "x", "logprobs": 2}).json()
    told = answer["choices"][0]["logprobs"]
    assert told["token_logprobs"] == [-9999.0]
    assert told["top_logprobs"] == [{"y": 0.0, "z": -9999.0, "x": -9999.0}]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("wish", [{}, {"logprobs": None}, {"logit_bias": {"97": 1}}])
def test_who_did_not_ask_is_not_told(
    client: TestClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    wish: dict[str, Any],
) -> None:
    answers(engine, monkeypatch, [("", A), ("ab", B)])
    body = (HELLO if "chat" in path else {"prompt": "x"}) | wish
    [choice] = client.post(path, json=body).json()["choices"]
    assert choice["logprobs"] is None
    assert all(choice["logprobs"] is None for choice in streamed(client, path, body))


def test_a_chunk_without_text_is_sent_for_its_tokens_numbers(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(engine, monkeypatch, [("", A)])
    silent = streamed(client, "/v1/chat/completions", HELLO)
    told = streamed(client, "/v1/chat/completions", HELLO | {"logprobs": True})
    assert [choice["delta"] for choice in silent] == [{"role": "assistant", "content": ""}, {}]
    assert [choice["delta"].get("content") for choice in told] == ["", "", None]
    assert told[0]["logprobs"] is told[2]["logprobs"] is None
    assert [entry["token"] for entry in told[1]["logprobs"]["content"]] == ["a"]
    chunks = streamed(client, "/v1/completions", {"prompt": "x", "logprobs": 0})
    assert [choice["text"] for choice in chunks] == ["", ""]
    assert [choice["logprobs"] and choice["logprobs"]["tokens"] for choice in chunks] == [
        ["a"],
        None,
    ]


def test_what_a_slow_reader_let_pile_up_comes_in_chunks_of_bounded_size(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(engine, monkeypatch, [("a", A)] * 150)
    chunks = streamed(client, "/v1/completions", {"prompt": "x", "logprobs": 0})
    sizes = [len(choice["logprobs"]["tokens"]) for choice in chunks[:-1]]
    assert (sum(sizes), max(sizes)) == (150, MAX_LOGPROBS_PER_CHUNK)
    assert "".join(choice["text"] for choice in chunks) == "a" * 150
    offsets = [at for choice in chunks[:-1] for at in choice["logprobs"]["text_offset"]]
    assert offsets == list(range(150))


def test_an_answer_without_tokens_has_empty_lists(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(engine, monkeypatch, [])
    body = HELLO | {"logprobs": True}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert choice["logprobs"] == {"content": [], "refusal": None}
    answer = client.post("/v1/completions", json={"prompt": "x", "logprobs": 1}).json()
    assert [*answer["choices"][0]["logprobs"].values()] == [[], [], [], []]


def test_a_chats_numbers_have_openais_shape(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(engine, monkeypatch, [("a", A)])
    body = HELLO | {"logprobs": True, "top_logprobs": 2}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    a = {"token": "a", "logprob": -0.5, "bytes": [97]}
    b = {"token": "b", "logprob": -1.5, "bytes": [98]}
    expected = {"content": [a | {"top_logprobs": [a, b]}], "refusal": None}
    assert choice["logprobs"] == expected
    assert streamed(client, "/v1/chat/completions", body)[1]["logprobs"] == expected
    assert [sampling.logprobs for sampling in asked] == [2, 2]


def test_a_completions_numbers_have_openais_shape(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(engine, monkeypatch, [("a", A), ("b", B)])
    body = {"prompt": ["x", "y"], "logprobs": 2}
    choices = client.post("/v1/completions", json=body).json()["choices"]
    expected = {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -2.0],
        "top_logprobs": [{"a": -0.5, "b": -1.5}, {"c": -0.25, "d": -0.75, "b": -2.0}],
        "text_offset": [0, 1],
    }
    assert [choice["logprobs"] for choice in choices] == [expected, expected]


@pytest.mark.parametrize(
    ("path", "wish", "logprobs"),
    [
        ("/v1/chat/completions", {"logprobs": True}, 0),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 20}, 20),
        ("/v1/chat/completions", {"logprobs": False}, None),
        ("/v1/completions", {"logprobs": 0}, 0),
        ("/v1/completions", {"logprobs": 5}, 5),
    ],
)
def test_what_is_asked_reaches_the_engine(
    client: TestClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    wish: dict[str, Any],
    logprobs: int | None,
) -> None:
    asked = answers(engine, monkeypatch, [])
    body = (HELLO if "chat" in path else {"prompt": "x"}) | wish
    assert client.post(path, json=body | {"logit_bias": {"97": -3}}).status_code == 200
    [sampling] = asked
    assert (sampling.logprobs, sampling.logit_bias) == (logprobs, ((97, -3.0),))


def test_a_bias_outside_the_vocabulary_takes_no_place(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(engine, monkeypatch, [])
    for path in ("/v1/chat/completions", "/v1/completions", "/generate"):
        body = HELLO if "chat" in path else {"prompt": "x"}
        answer = client.post(path, json=body | {"logit_bias": {"97": 1, "128": 1}})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logit_bias")
    assert asked == []


def told(bpe: Tokenizer, ids: Sequence[int]) -> list[TokenLogprobs]:
    return [TokenLogprobs(i, -1.0, ((i, -1.0),)) for i in ids]


def test_the_pieces_of_a_character_share_an_offset_over_chunks(bpe: Tokenizer) -> None:
    ids = bpe.encode("fox 🧿中 b")
    text = bpe.decode(ids)
    writer = CompletionLogprobs(bpe.spelling)
    bodies = [writer.body([one]) for one in told(bpe, ids)]
    offsets = [body["text_offset"][0] for body in bodies]
    pieces = [body["tokens"][0] for body in bodies]
    assert offsets == sorted(offsets)
    assert offsets.count(text.index("🧿")) > 1
    for piece, offset in zip(pieces, offsets, strict=True):
        assert "\ufffd" in piece or text[offset:].startswith(piece)
    assert CompletionLogprobs(bpe.spelling).body(told(bpe, ids))["text_offset"] == offsets


def test_a_character_that_never_came_whole_takes_one_place(bpe: Tokenizer) -> None:
    broken = bpe.encode("🧿")[:-1]
    ids = [*bpe.encode("a"), *broken, *broken, *bpe.encode("the")]
    body = CompletionLogprobs(bpe.spelling).body(told(bpe, ids))
    assert bpe.decode(ids) == "a\ufffd\ufffdthe"
    assert body["text_offset"] == [0, *[1] * len(broken), *[2] * len(broken), 3]


def test_the_bytes_of_a_chats_tokens_are_the_texts(bpe: Tokenizer) -> None:
    ids = bpe.encode("🧿中")
    content = ChatLogprobs(bpe.spelling).body(told(bpe, ids))["content"]
    assert bytes(b for entry in content for b in entry["bytes"]).decode() == "🧿中"
    assert "\ufffd" in content[0]["token"]


def test_a_special_token_is_named_and_takes_no_room_in_the_text(bpe: Tokenizer) -> None:
    end = bpe.hf.eos_token_id
    ids = [*bpe.encode("fox"), end, *bpe.encode("the")]
    body = CompletionLogprobs(bpe.spelling).body(told(bpe, ids))
    at = ids.index(end)
    assert body["tokens"][at] == "<|end|>"
    assert body["text_offset"][at] == body["text_offset"][at + 1] == len("fox")


def test_a_special_token_that_is_shown_takes_its_room(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, bpe: Tokenizer
) -> None:
    end = bpe.hf.eos_token_id
    ids = [*bpe.encode("fox"), end, *bpe.encode("the")]
    monkeypatch.setattr(engine, "tokenizer", Spelled(bpe))
    answers(engine, monkeypatch, [("", one) for one in told(bpe, ids)])
    at = ids.index(end)
    for is_skipping, room in ((True, 0), (False, len("<|end|>"))):
        body = {"prompt": "x", "logprobs": 0, "skip_special_tokens": is_skipping}
        [choice] = client.post("/v1/completions", json=body).json()["choices"]
        offsets = choice["logprobs"]["text_offset"]
        assert offsets[at + 1] - offsets[at] == room


class Spelled(LetterTokenizer):
    """Spells as another one does."""

    def __init__(self, other: Tokenizer) -> None:
        self._other = other

    def spelling(self, token_id: int) -> Spelling:
        return self._other.spelling(token_id)


def test_of_tokens_that_are_written_alike_the_likeliest_is_shown(bpe: Tokenizer) -> None:
    first, *_, last = bpe.encode("🧿")
    one = TokenLogprobs(last, -3.0, ((first, -0.5), (last, -3.0)))
    [top] = CompletionLogprobs(bpe.spelling).body([one])["top_logprobs"]
    assert top == {"\ufffd": -0.5}
