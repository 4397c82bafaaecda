"""Scored prompts over HTTP, read as evaluation harnesses read them, against what transformers
computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from server import Server, running_server
from transformers import AutoModelForCausalLM, AutoTokenizer

CONTEXT = "Once upon a time there was a little fox who lived in the forest."
CONTINUATIONS = (" The fox", " Nobody knew why, and it was so.", "!", " \u00e9\U0001f98a")


class Reference:
    """The same model without a server."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def likelihood(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        """The log probability of a continuation, and whether greedy decoding would give it."""
        with torch.inference_mode():
            logits = self._model(torch.tensor([context + continuation])).logits[0]
        rows = logits[len(context) - 1 : -1].float().log_softmax(-1)
        own = rows.gather(-1, torch.tensor(continuation)[:, None])
        return float(own.sum()), rows.argmax(-1).tolist() == continuation

    def greedy(self, context: list[int], count: int) -> list[int]:
        for _ in range(count):
            with torch.inference_mode():
                last = self._model(torch.tensor([context])).logits[0, -1]
            context = [*context, int(last.argmax())]
        return context[-count:]


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Reference:
    return Reference(tiny_model)


@pytest.fixture(scope="module", params=["threaded", "auto"])
def server(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(request.param)
    with running_server(folder, tiny_model, engine=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as running:
        yield running


def completed(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    """The choices of the chunks."""
    answer = client.post("/v1/completions", json=body | {"stream": True})
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_likelihoods_are_those_that_a_harness_computes_itself(
    client: httpx.Client, reference: Reference, max_tokens: int
) -> None:
    context = reference.ids(CONTEXT)
    continuations = [reference.ids(text) for text in CONTINUATIONS]
    continuations.append(reference.greedy(context, 3))
    body = completed(
        client,
        prompt=[context + continuation for continuation in continuations],
        temperature=0,
        max_tokens=max_tokens,
        logprobs=1,
        seed=1234,
        echo=True,
    )
    for choice, continuation in zip(body["choices"], continuations, strict=True):
        # As lm-eval's `local-completions` reads it, which always asks for one more token.
        end = len(context) + len(continuation)
        told = choice["logprobs"]
        assert len(told["token_logprobs"]) == end + max_tokens
        values = told["token_logprobs"][len(context) : end]
        best = [max(top.values()) for top in told["top_logprobs"][len(context) : end]]
        expected, is_greedy = reference.likelihood(context, continuation)
        assert sum(values) == pytest.approx(expected, abs=1e-3)
        assert (values == best) is is_greedy
    assert is_greedy, "the last one is what greedy decoding gives"


def test_the_answers_end_is_one_more_entry(client: httpx.Client, reference: Reference) -> None:
    eos = reference.tokenizer.eos_token_id
    ids = reference.ids(CONTEXT)
    [choice] = completed(
        client, prompt=ids, max_tokens=1, logprobs=0, echo=True, logit_bias={str(eos): 100}
    )["choices"]
    assert (choice["finish_reason"], choice["text"]) == ("stop", reference.tokenizer.decode(ids))
    assert len(choice["logprobs"]["tokens"]) == len(ids) + 1


@pytest.mark.parametrize("prompt", [CONTEXT, "caf\u00e9 \U0001f98a\n\n x"])
def test_a_streamed_echo_says_what_a_whole_one_says(
    client: httpx.Client, reference: Reference, prompt: str
) -> None:
    for sent in (prompt, reference.ids(prompt)):
        asked = {"prompt": sent, "temperature": 0, "max_tokens": 6, "logprobs": 2, "echo": True}
        [whole] = completed(client, **asked)["choices"]
        assert whole["text"].startswith(prompt)
        chunks = streamed(client, **asked)
        assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
        for name, values in whole["logprobs"].items():
            told = [v for chunk in chunks if chunk["logprobs"] for v in chunk["logprobs"][name]]
            if name in ("tokens", "text_offset"):
                assert told == values
            elif name == "token_logprobs":
                assert told == [None, *(pytest.approx(value, abs=1e-3) for value in values[1:])]
        pairs = zip(whole["logprobs"]["tokens"], whole["logprobs"]["text_offset"], strict=True)
        for token, offset in pairs:
            assert "\ufffd" in token or whole["text"][offset:].startswith(token)


def test_every_prompt_and_choice_has_its_own_echo(client: httpx.Client) -> None:
    prompts = ["The fox", "A day"]
    body = completed(client, prompt=prompts, n=2, max_tokens=2, echo=True, temperature=1, seed=3)
    texts = [choice["text"] for choice in body["choices"]]
    assert [text[: len(prompts[i // 2])] for i, text in enumerate(texts)] == [
        "The fox",
        "The fox",
        "A day",
        "A day",
    ]
    assert body["usage"]["completion_tokens"] == 8


def test_a_prompt_alone_is_repeated_and_costs_no_token(client: httpx.Client) -> None:
    body = completed(client, prompt="The fox", max_tokens=0, echo=True)
    [choice] = body["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("The fox", "length")
    assert body["usage"]["completion_tokens"] == 0


def test_prompt_logprobs_have_ranks_on_both_routes(
    client: httpx.Client, reference: Reference
) -> None:
    ids = reference.ids(CONTEXT)
    [choice] = completed(client, prompt=ids, max_tokens=1, prompt_logprobs=2)["choices"]
    asked = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "prompt_logprobs": 2,
        "return_token_ids": True,
    }
    chat = client.post("/v1/chat/completions", json=asked).json()
    for prompt, told in (
        (ids, choice["prompt_logprobs"]),
        (chat["prompt_token_ids"], chat["prompt_logprobs"]),
    ):
        assert told[0] is None
        assert len(told) == len(prompt)
        for token_id, entries in zip(prompt[1:], told[1:], strict=True):
            own = entries[str(token_id)]
            ranks = sorted(entry["rank"] for entry in entries.values())
            assert ranks == sorted({1, 2, own["rank"]})
            best = max(entry["logprob"] for entry in entries.values())
            assert (own["logprob"] == best) is (own["rank"] == 1)
    total = sum(
        entries[str(i)]["logprob"] for i, entries in zip(ids[1:], told_of(choice), strict=True)
    )
    assert total == pytest.approx(reference.likelihood(ids[:1], ids[1:])[0], abs=1e-3)


def told_of(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return list(choice["prompt_logprobs"][1:])


def test_a_prompt_that_is_too_long_may_lose_its_beginning(
    client: httpx.Client, reference: Reference
) -> None:
    ids = reference.ids(CONTEXT)
    for sent in (CONTEXT, ids):
        asked = {"prompt": sent, "max_tokens": 1, "return_token_ids": True, "echo": True}
        body = completed(client, **asked, truncate_prompt_tokens=3)
        [choice] = body["choices"]
        assert choice["prompt_token_ids"] == ids[-3:]
        assert choice["text"].startswith(reference.tokenizer.decode(ids[-3:]))
        assert body["usage"]["prompt_tokens"] == 3
    long = CONTEXT * 500
    body = completed(client, prompt=long, max_tokens=5, truncate_prompt_tokens=-1)
    assert body["usage"]["prompt_tokens"] + 5 == body["usage"]["total_tokens"] == 2048


def test_the_usage_counts_all_of_which_the_best_are_returned(client: httpx.Client) -> None:
    asked = {"prompt": CONTEXT, "max_tokens": 4, "temperature": 1, "seed": 5, "ignore_eos": True}
    every = completed(client, **asked, n=4, logprobs=0)
    means = {c["text"]: sum(c["logprobs"]["token_logprobs"]) for c in every["choices"]}
    best = completed(client, **asked, n=2, best_of=4)
    assert [c["text"] for c in best["choices"]] == sorted(means, key=means.__getitem__)[:1:-1]
    assert best["usage"]["completion_tokens"] == 16
    assert [c["logprobs"] for c in best["choices"]] == [None, None]
