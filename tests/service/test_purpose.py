"""A model that is asked for what it does not do: the refusal names what it does, and who could."""

from __future__ import annotations

import pytest
from fake_encoder import FakeEncoder
from fake_engine import FakeEngine

from llmserve.domain import Caller, EncodingPurpose, ModelSpec
from llmserve.errors import InvalidRequest
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus
from llmserve.service.purpose import check_encodes, check_generates

ANYBODY = Caller()
EMBEDDING, SCORE = EncodingPurpose.EMBEDDING, EncodingPurpose.SCORE


@pytest.fixture
def registry() -> Registry:
    """One model of each kind, ready, and one whose files are not here yet."""
    made = Registry(
        [ModelSpec("embeds"), ModelSpec("chats"), ModelSpec("scores")],
        on_demand=[ModelSpec("far", hub_id="somebody/far")],
    )
    for name, engine in (
        ("embeds", FakeEncoder()),
        ("chats", FakeEngine()),
        ("scores", FakeEncoder(purposes=(SCORE,))),
    ):
        model = made.find(name)
        model.engine, model.status = engine, ModelStatus.READY
    return made


def test_a_chat_for_a_model_that_embeds(registry: Registry) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_generates(registry.find("embeds"), registry, ANYBODY)
    assert refused.value.param == "model"
    assert "'embeds' does not generate text; what it can do: embeddings;" in refused.value.message
    assert "ask 'chats'" in refused.value.message
    check_generates(registry.find("chats"), registry, ANYBODY)


def test_an_embedding_for_a_model_that_chats_or_scores(registry: Registry) -> None:
    for name, does in (("chats", "completions, structured_outputs"), ("scores", "rerank, score")):
        with pytest.raises(InvalidRequest) as refused:
            check_encodes(registry.find(name), EMBEDDING, registry, ANYBODY)
        assert f"{name!r} does not embed texts; what it can do: {does};" in refused.value.message
        assert refused.value.message.endswith("ask 'embeds'")
    check_encodes(registry.find("embeds"), EMBEDDING, registry, ANYBODY)


def test_models_of_other_keys_are_not_named(registry: Registry) -> None:
    only = Caller(models=frozenset({"chats"}))
    with pytest.raises(InvalidRequest, match="no other model that you may use"):
        check_encodes(registry.find("chats"), EMBEDDING, registry, only)


def test_what_is_not_known_yet_is_not_refused(registry: Registry) -> None:
    check_encodes(registry.find("far"), EMBEDDING, registry, ANYBODY)


def test_a_model_that_only_encodes_is_not_the_default(registry: Registry) -> None:
    assert registry.find(None).spec.name == "chats"
    registry.remove(registry.find("chats"))
    registry.remove(registry.find("far"))
    assert registry.find(None).spec.name == "embeds"
