"""Servers in this process."""

from __future__ import annotations

import pytest
from grpc_desk import Opening, opening


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Opening:
    return opening(monkeypatch)
