"""scripts/bench-embeddings: its arithmetic, the model that it makes, what it compares with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from measure.embeddings.__main__ import Measured
from measure.embeddings.plain_server import plain_app
from measure.embeddings.subjects import for_all, make_minilm, versions
from transformers import AutoTokenizer

from llmserve.bench.embedding_report import EmbeddingReport
from llmserve.bench.embeddings import TimedEmbeddings
from llmserve.bench.load import Collected
from llmserve.engines.encoding.files import read_files


class Model:
    """Says how long each text is."""

    def encode(self, texts: list[str], show_progress_bar: bool) -> Any:
        return np.array([[len(text)] for text in texts], dtype=np.float32)


@pytest.mark.parametrize("in_threads", [False, True])
def test_the_plain_server_answers_as_openai_does(in_threads: bool) -> None:
    app = plain_app(Model(), in_threads=in_threads)  # type: ignore[arg-type]
    with TestClient(app) as client:
        assert client.get("/health").status_code == 200
        for inputs, lengths in (("one", [3]), (["a", "four"], [1, 4])):
            answer = client.post("/v1/embeddings", json={"model": "m", "input": inputs}).json()
            assert [each["embedding"] for each in answer["data"]] == [[n] for n in lengths]


def measured(name: str, *texts: int) -> Measured:
    answers = [[TimedEmbeddings(0.0, 0.1, is_done=True)] * count for count in texts]
    return Measured(name, [EmbeddingReport.of(Collected(each, 0.0, 1.0)) for each in answers])


def test_a_row_is_the_median_of_its_rounds_beside_the_base() -> None:
    base = measured("plain", 10, 20, 30)
    assert base.rate == 20
    ours = measured("ours", 40, 40, 60)
    ours.processor_seconds = 1.4
    assert ours.row(base) == "| ours | 40.0 | 2.00 | 4.00, 2.00, 2.00 | 100 | 100 | 10.0 |"


def test_the_made_model_is_in_the_layout_that_all_read(tmp_path: Path) -> None:
    made = make_minilm(tmp_path / "made", tiny=True)
    files = read_files(made)
    assert (files.pooling, files.is_normalized, files.max_tokens) == (("mean",), True, 512)
    copy = for_all(made, tmp_path / "copy")
    config = json.loads((copy / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    text = "some words"
    one, other = (AutoTokenizer.from_pretrained(folder)(text).input_ids for folder in (made, copy))
    assert one == other


def test_what_is_not_installed_is_told(tmp_path: Path) -> None:
    python = Path(sys.executable)
    assert versions(python, "torch").startswith("torch 2")
    assert "no-such-package" in versions(python, "no-such-package")
