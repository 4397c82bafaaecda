"""What /v1/models tells of a model."""

from __future__ import annotations

from dataclasses import replace

from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.domain import Quantization, SamplingFields


def test_it_tells_how_its_weights_are_quantised(client: TestClient, engine: FakeEngine) -> None:
    assert "quantization" not in client.get("/v1/models/fake").json()
    engine.info = replace(engine.info, quantization=Quantization("int8", 8, "load"))
    told = client.get("/v1/models/fake").json()
    assert told["dtype"] == "float32"
    assert told["quantization"] == {
        "method": "int8", "bits": 8, "from": "load", "expanded": False,
    }  # fmt: skip


def test_it_tells_how_a_chat_is_sampled_that_asks_for_nothing(
    client: TestClient, engine: FakeEngine
) -> None:
    assert client.get("/v1/models/fake").json()["default_sampling"] == {
        "max_tokens": None, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": [],
    }  # fmt: skip
    wanted = SamplingFields(temperature=0.6, top_k=20, stop=("END",))
    engine.info = replace(engine.info, sampling=wanted)
    told = client.get("/v1/models").json()["data"][0]["default_sampling"]
    assert (told["temperature"], told["top_k"], told["stop"]) == (0.6, 20, ["END"])


def test_it_tells_for_how_many_recurrent_states_there_is_memory(
    client: TestClient, engine: FakeEngine
) -> None:
    assert "recurrent_states" not in client.get("/v1/models/fake").json()
    engine.info = replace(engine.info, num_states=40, state_bytes=8000)
    told = client.get("/v1/models/fake").json()["recurrent_states"]
    assert told == {"slots": 40, "bytes": 8000}
