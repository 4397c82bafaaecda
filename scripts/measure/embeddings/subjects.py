"""The models that are measured, and the servers that serve them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch
from random_models.tokenizer import build_tokenizer
from transformers import BertConfig, BertModel

from measure.speed.servers import SCRIPTS, Server

DEMO: Final = Path(__file__).parents[3] / "models" / "demo-embedding"
VOCABULARY: Final = 30_522
CONTEXT: Final = 512
PROCESSES: Final = Path(__file__).parents[2]
"""Where `measure` is found."""


def make_minilm(folder: Path, *, tiny: bool = False) -> Path:
    """A BERT of MiniLM-L6's shape (22.6 million parameters) with random weights, means over tokens;
    `tiny` has a layer of a few numbers instead."""
    config = BertConfig(
        vocab_size=2048 if tiny else VOCABULARY,
        hidden_size=32 if tiny else 384,
        intermediate_size=64 if tiny else 1536,
        num_hidden_layers=1 if tiny else 6,
        num_attention_heads=2 if tiny else 12,
        max_position_embeddings=CONTEXT,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    build_tokenizer(config.vocab_size, CONTEXT).save_pretrained(folder)
    kind = "sentence_transformers.models"
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    _write(folder / "modules.json", [
        {"idx": index, "name": str(index), "path": path, "type": f"{kind}.{module}"}
        for index, (path, module) in enumerate(modules)
    ])  # fmt: skip
    _write(folder / "sentence_bert_config.json", {"max_seq_length": CONTEXT})
    _write(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True,
    })  # fmt: skip
    return folder


def for_all(folder: Path, copy: Path) -> Path:
    """A copy that transformers 4 reads, too, which lacks the tokenizer's class of version 5."""
    shutil.copytree(folder, copy)
    file = copy / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    _write(file, config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    return copy


def llmserve(folder: Path) -> Server:
    """Ours."""
    command = [str(SCRIPTS / "llmserve"), "serve", str(folder), "--port", "PORT"]
    return Server("llmserve", command, "/health/ready", "embeddings")


def plain(folder: Path, *, in_threads: bool) -> Server:
    """FastAPI around sentence-transformers."""
    command = [sys.executable, "-m", "measure.embeddings.plain_server", str(folder), "PORT"]
    if in_threads:
        return Server("sentence-transformers, in threads", [*command, "--threads"], "/health", "")
    return Server("sentence-transformers, one after another", command, "/health", "")


def infinity(folder: Path, python: Path) -> Server:
    """infinity-emb, of another environment."""
    command = [
        str(python.parent / "infinity_emb"), "v2", "--model-id", str(folder), "--port", "PORT",
        "--host", "127.0.0.1", "--url-prefix", "/v1", "--engine", "torch", "--device", "cpu",
        "--served-model-name", folder.name, "--no-model-warmup",
    ]  # fmt: skip
    return Server("infinity-emb", command, "/v1/models", "", model=folder.name)


def versions(python: Path, *packages: str) -> str:
    """What is installed for a Python."""
    code = (
        "import sys, importlib.metadata as m;"
        "print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    )
    done = subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
