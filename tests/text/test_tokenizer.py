"""Prompts to tokens: what is refused, then what comes out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from llmserve.domain import Message
from llmserve.errors import InvalidRequest
from llmserve.text.tokenizer import Tokenizer


@pytest.mark.parametrize("ids", [(-1,), (10**9,), (1, 2, 10**9)])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="vocabulary") as refused:
        tokenizer.encode(ids)
    assert refused.value.param == "prompt"


def test_ids_without_an_embedding_are_refused_in_text_too(tokenizer: Tokenizer) -> None:
    smaller = Tokenizer(tokenizer.hf, num_embeddings=max(tokenizer.encode("hello")))
    with pytest.raises(InvalidRequest, match="vocabulary"):
        smaller.encode("hello")


def test_a_prompt_is_never_cut_or_padded_by_the_tokenizers_file(tiny_model: Path) -> None:
    cutting = AutoTokenizer.from_pretrained(tiny_model)
    text = "the little fox " * 20
    whole = Tokenizer(AutoTokenizer.from_pretrained(tiny_model)).encode(text)
    cutting.backend_tokenizer.enable_truncation(5)
    cutting.backend_tokenizer.enable_padding(length=500)
    assert Tokenizer(cutting).encode(text) == whole


def test_a_template_that_refuses_is_the_callers_error(tokenizer: Tokenizer) -> None:
    strict = Tokenizer(tokenizer.hf, "{{ raise_exception('no system, please') }}")
    with pytest.raises(InvalidRequest, match="no system, please") as refused:
        strict.encode((Message("system", "hi"),))
    assert refused.value.param == "messages"


def test_without_a_template_there_is_no_chat(tokenizer: Tokenizer) -> None:
    class Bare:
        chat_template = None

        def __len__(self) -> int:
            return 9

    with pytest.raises(InvalidRequest, match="no chat template"):
        Tokenizer(Bare()).encode((Message("user", "hi"),))


def test_a_conversation_ends_where_the_answer_begins(tokenizer: Tokenizer) -> None:
    rendered = tokenizer.render((Message("user", "hi"),))
    assert rendered.endswith("<|im_start|>assistant\n")
    ids = tokenizer.encode((Message("user", "hi"),))
    assert tokenizer.decode(ids) == "user\nhi\nassistant\n", "special tokens have no text"


def test_eight_threads_get_what_one_gets(tokenizer: Tokenizer) -> None:
    texts = [f"the little fox number {i} " * 20 for i in range(64)]
    expected = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == expected
