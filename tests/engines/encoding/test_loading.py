"""What is no encoder is refused when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.encoding.loading import load_encoder
from llmserve.errors import ModelBroken


def test_a_gguf_file_is_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "it.gguf").write_bytes(b"GGUF")
    spec = ModelSpec("it", path=tmp_path, device="cpu", engine=EngineKind.ENCODING)
    with pytest.raises(ModelBroken, match="GGUF files are served as models that generate"):
        load_encoder(spec, tmp_path, lambda progress: None)
