"""logit_bias and logprobs with OpenAI's own client, against what transformers computes."""

from __future__ import annotations

from pathlib import Path

import httpx
import openai
import pytest
import torch
from server import Server
from transformers import AutoModelForCausalLM, AutoTokenizer

MESSAGES = [{"role": "user", "content": "Which port?"}]
PROMPT = "Once upon a time"


class Reference:
    """The same model without a server."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def chat_ids(self) -> list[int]:
        rendered = self.tokenizer.apply_chat_template(
            MESSAGES, tokenize=False, add_generation_prompt=True
        )
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Of the token after these, (vocab,)."""
        with torch.inference_mode():
            return self._model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Reference:
    return Reference(tiny_model)


@pytest.fixture(params=["threaded", "tiny"])
def model(request: pytest.FixtureRequest) -> str:
    """The same model by each engine."""
    return str(request.param)


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0)


def test_a_bias_for_a_token_that_is_not_there_is_refused(
    client: openai.OpenAI, reference: Reference, model: str
) -> None:
    vocab = len(reference.logprobs([1]))
    for token_id in (vocab, 10**9):
        with pytest.raises(openai.BadRequestError, match="vocabulary") as refused:
            client.chat.completions.create(
                model=model, messages=MESSAGES, logit_bias={str(token_id): 1}
            )
        assert refused.value.param == "logit_bias"


def test_a_bias_of_100_forces_a_token_and_of_minus_100_bans_it(
    client: openai.OpenAI, reference: Reference, model: str
) -> None:
    ids = reference.chat_ids()
    [fox] = reference.tokenizer(" fox", add_special_tokens=False)["input_ids"][:1]
    likeliest = int(reference.logprobs(ids).argmax())
    text = reference.tokenizer.decode([fox])
    for temperature in (0.0, 1.0):
        forced = client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            temperature=temperature,
            max_tokens=4,
            logit_bias={str(fox): 100},
        )
        assert forced.choices[0].message.content == text * 4
    banned = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        temperature=0,
        max_tokens=1,
        logprobs=True,
        top_logprobs=2,
        logit_bias={str(likeliest): -100},
    )
    assert banned.choices[0].logprobs is not None
    [entry] = banned.choices[0].logprobs.content or []
    assert entry.token == entry.top_logprobs[1].token, "the second likeliest was chosen"
    assert entry.logprob == pytest.approx(
        float(reference.logprobs(ids).topk(2).values[1]), abs=1e-3
    )


def test_the_native_route_takes_a_bias_too(
    server: Server, reference: Reference, model: str
) -> None:
    [fox] = reference.tokenizer(" fox", add_special_tokens=False)["input_ids"][:1]
    body = {"model": model, "prompt": PROMPT, "max_tokens": 3, "logit_bias": {str(fox): 100}}
    answer = httpx.post(server.url + "/generate", json=body, timeout=30).json()
    assert answer["result"] == reference.tokenizer.decode([fox]) * 3


def test_the_first_tokens_numbers_are_the_models(
    client: openai.OpenAI, reference: Reference, model: str
) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        seed=7,
        temperature=1.7,
        max_tokens=5,
        logprobs=True,
        top_logprobs=20,
        presence_penalty=1.0,
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    assert len(content) == answer.usage.completion_tokens
    expected = reference.logprobs(reference.chat_ids()).topk(20)
    first = content[0]
    assert [top.logprob for top in first.top_logprobs] == pytest.approx(
        expected.values.tolist(), abs=1e-3
    )
    assert [len(entry.top_logprobs) for entry in content] == [20] * len(content)
    text = b"".join(bytes(entry.bytes or []) for entry in content).decode(errors="replace")
    assert text == answer.choices[0].message.content


def test_a_streamed_chat_tells_what_a_whole_one_tells(client: openai.OpenAI, model: str) -> None:
    asked = {
        "model": model,
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 12,
        "logprobs": True,
        "top_logprobs": 3,
    }
    [whole] = client.chat.completions.create(**asked).choices
    chunks = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True)]
    assert chunks[0].logprobs is None
    assert chunks[-1].logprobs is None
    told = [entry for c in chunks if c.logprobs for entry in c.logprobs.content or []]
    assert whole.logprobs is not None
    assert [e.token for e in told] == [e.token for e in whole.logprobs.content or []]
    assert [e.logprob for e in told] == pytest.approx(
        [e.logprob for e in whole.logprobs.content or []], abs=1e-3
    )
    assert "".join(c.delta.content or "" for c in chunks) == whole.message.content


def test_completions_tell_of_every_choice_streamed_and_whole(
    client: openai.OpenAI, reference: Reference, model: str
) -> None:
    prompts = [PROMPT, "The fox"]
    asked = {"model": model, "prompt": prompts, "temperature": 0, "max_tokens": 8, "logprobs": 2}
    choices = client.completions.create(**asked).choices
    for prompt, choice in zip(prompts, choices, strict=True):
        told = choice.logprobs
        assert told is not None
        expected = reference.logprobs(reference.tokenizer(prompt)["input_ids"])
        assert told.token_logprobs[0] == pytest.approx(float(expected.max()), abs=1e-3)
        assert sorted(told.top_logprobs[0].values()) == pytest.approx(
            sorted(expected.topk(2).values.tolist()), abs=1e-3
        )
        for token, offset in zip(told.tokens, told.text_offset, strict=True):
            assert "\ufffd" in token or choice.text[offset:].startswith(token)
    streamed: dict[int, list[tuple[str, int]]] = {0: [], 1: []}
    for chunk in client.completions.create(**asked, stream=True):
        for part in chunk.choices:
            if part.logprobs is not None:
                pairs = zip(part.logprobs.tokens, part.logprobs.text_offset, strict=True)
                streamed[part.index].extend(pairs)
    whole = [list(zip(c.logprobs.tokens, c.logprobs.text_offset, strict=True)) for c in choices]
    assert [streamed[0], streamed[1]] == whole


def test_no_top_is_the_chosen_token_alone(client: openai.OpenAI, model: str) -> None:
    [choice] = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=3, logprobs=0
    ).choices
    assert choice.logprobs is not None
    pairs = zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, strict=True)
    assert choice.logprobs.top_logprobs == [{token: value} for token, value in pairs]
    [chat] = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=3, logprobs=True
    ).choices
    assert chat.logprobs is not None
    assert [entry.top_logprobs for entry in chat.logprobs.content or []] == [[]] * 3


def test_half_a_character_is_told_in_the_chunk_of_its_token(
    client: openai.OpenAI, reference: Reference, model: str
) -> None:
    lead = reference.tokenizer.convert_tokens_to_ids("ð")  # 0xF0, an emoji's first byte
    stream = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=3,
        logprobs=True,
        stream=True,
        logit_bias={str(lead): 100},
    )
    choices = [chunk.choices[0] for chunk in stream]
    told = [
        (entry.token, entry.bytes)
        for choice in choices
        if choice.logprobs
        for entry in choice.logprobs.content or []
    ]
    assert told == [("\ufffd", [0xF0])] * 3
    assert "".join(choice.delta.content or "" for choice in choices) == "\ufffd\ufffd\ufffd"
