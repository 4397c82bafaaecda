"""The extra that gRPC needs."""

from __future__ import annotations

from importlib import util

import pytest

from llmserve.errors import ConfigurationError
from llmserve.proto.extra import require_grpc


@pytest.mark.parametrize("missing", ["grpc", "grpc_health", "grpc_reflection"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(
        "llmserve.proto.extra.find_spec",
        lambda name: None if name == missing else find_spec(name),
    )
    with pytest.raises(ConfigurationError, match=r"^grpc_port is set, .*'llmserve\[grpc\]'"):
        require_grpc("grpc_port is set")


def test_it_is_installed_here() -> None:
    require_grpc("tests need it")
