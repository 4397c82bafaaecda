"""A model as the registry keeps it."""

from __future__ import annotations

import pytest
from fake_encoder import FakeEncoder
from fake_engine import FakeEngine

from llmserve.domain import EncodingPurpose, EngineStats, ModelSpec
from llmserve.errors import DeviceLost, InvalidRequest
from llmserve.registry.served import ModelStatus, ServedModel


class SilentEncoder(FakeEncoder):
    def stats(self) -> EngineStats:
        return EngineStats(seconds_since_step=1.0, seconds_preparing=2.0)


def test_a_request_that_generates_gets_a_generator() -> None:
    engine = FakeEngine()
    assert ServedModel(ModelSpec("m"), engine=engine).generator is engine


def test_a_model_that_does_something_else_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"does not generate.*can do: embeddings") as refused:
        _ = ServedModel(ModelSpec("m"), engine=FakeEncoder()).generator
    assert refused.value.param == "model"
    with pytest.raises(InvalidRequest, match=r"does not embed.*can do: completions") as refused:
        _ = ServedModel(ModelSpec("m"), engine=FakeEngine()).encoder
    assert refused.value.param == "model"


def test_a_request_to_encode_gets_an_encoder_that_is_for_it() -> None:
    engine = FakeEncoder()
    model = ServedModel(ModelSpec("m"), engine=engine, status=ModelStatus.READY)
    assert model.encoder is engine
    assert model.encodes_for(EncodingPurpose.EMBEDDING)
    assert not model.encodes_for(EncodingPurpose.CLASSIFICATION)


def test_the_oldest_sign_of_life_counts() -> None:
    assert ServedModel(ModelSpec("m")).seconds_since_step is None
    assert ServedModel(ModelSpec("m"), engine=SilentEncoder()).seconds_since_step == 2.0


def test_a_lost_device_is_silent_for_ever() -> None:
    model = ServedModel(ModelSpec("m"), error=DeviceLost("gone"))
    assert model.seconds_since_step == float("inf")
