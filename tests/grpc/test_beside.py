"""Beside HTTP, or not at all."""

from __future__ import annotations

import sys

import grpc
import pytest
from fake_engine import TalkingEngine
from fastapi.testclient import TestClient
from server import free_port

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.grpc.beside import serve_beside
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_the_application_answers_both(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry([ModelSpec("fake")])
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: registry)
    monkeypatch.setattr(models, "build_engine", lambda *_: TalkingEngine())
    settings = Settings(grpc_port=free_port(), drain_timeout_seconds=1)
    with TestClient(create_app(settings, beside=serve_beside)) as client:
        while client.get("/health/ready").status_code != 200:
            pass
        with grpc.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel:
            events = list(GenerationStub(channel).Generate(pb.GenerateRequest(text="hello")))
            assert events[-1].finish.usage.completion_tokens == 2
            counted = client.get("/metrics").text
            assert (
                'llmserve_grpc_requests_total{method="llmserve.v1.Generation/Generate"' in counted
            )


def test_without_a_port_nothing_of_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry([ModelSpec("fake")])
    monkeypatch.setattr(server, "build_registry", lambda *_, **__: registry)
    monkeypatch.setattr(models, "build_engine", lambda *_: TalkingEngine())
    monkeypatch.setitem(sys.modules, "llmserve.grpc.server", None)
    with TestClient(create_app(Settings(), beside=serve_beside)) as client:
        assert client.get("/health").status_code == 200
