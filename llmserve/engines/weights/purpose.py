"""What a model's files say that it is for: generate, embed, score, classify. Knows no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from llmserve.domain import EncodingPurpose, EngineKind, ModelSpec

MODULES: Final = "modules.json"
"""sentence-transformers' list of what is computed one after another."""
SETTINGS: Final = "config_sentence_transformers.json"

EMBEDDING: Final = (EncodingPurpose.EMBEDDING, EncodingPurpose.SCORE)
"""Texts are scored by how similar their embeddings are."""

ENCODERS: Final = frozenset(
    {
        "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
        "ernie", "eurobert", "mobilebert", "modernbert", "mpnet", "nomic_bert", "rembert",
        "roberta", "roberta-prelayernorm", "roformer", "squeezebert", "xlm-roberta",
        "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
"""Families, as `model_type` names them, that read a text in both directions and continue none."""

GENERATES: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def purposes_of(spec: ModelSpec) -> tuple[EncodingPurpose, ...]:
    """What a model encodes for, as far as its files are here; none where it generates."""
    if spec.path is None or spec.remote is not None:
        return ()
    return purposes_in(spec.path, spec.engine, is_described=spec.encoding is not None)


def purposes_in(
    folder: Path, engine: EngineKind = EngineKind.AUTO, *, is_described: bool = False
) -> tuple[EncodingPurpose, ...]:
    """What the model in a folder encodes for; none where it generates.

    An operator decides by naming an engine; a model `is_described` that has an `[encoding]`.
    """
    if engine in (EngineKind.BATCHING, EngineKind.THREADED):
        return ()
    return _by_files(folder) or (EMBEDDING if _is_forced(engine, is_described) else ())


def transformer_folder(folder: Path) -> Path:
    """Where the weights of a model that embeds are: here, or in a folder that `modules.json` names
    first."""
    modules = read_json(folder / MODULES)
    first = modules[0] if isinstance(modules, list) and modules else {}
    path = first.get("path") if isinstance(first, dict) else None
    return folder / path if isinstance(path, str) and ".." not in path else folder


def number_of_labels(config: dict[str, Any]) -> int:
    """How many classes a config names, or what transformers takes it for."""
    labels = config.get("id2label")
    if isinstance(labels, dict):
        return len(labels)
    count = config.get("num_labels")
    return count if isinstance(count, int) else 2


def read_json(file: Path) -> Any:
    """The content of a file, `None` where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_forced(engine: EngineKind, is_described: bool) -> bool:
    return engine is EngineKind.ENCODING or is_described


def _by_files(folder: Path) -> tuple[EncodingPurpose, ...]:
    has_modules = (folder / MODULES).is_file()
    config = read_json(folder / "config.json")
    config = config if isinstance(config, dict) else {}
    architectures = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        if number_of_labels(config) == 1:
            return (EncodingPurpose.SCORE,)
        return (EncodingPurpose.CLASSIFICATION,)
    if has_modules:
        return (EncodingPurpose.SCORE,) if _is_cross_encoder(folder) else EMBEDDING
    generates = any(name.endswith(GENERATES) for name in architectures) or config.get("is_decoder")
    return EMBEDDING if config.get("model_type") in ENCODERS and not generates else ()


def _is_cross_encoder(folder: Path) -> bool:
    settings = read_json(folder / SETTINGS)
    return isinstance(settings, dict) and settings.get("model_type") == "CrossEncoder"
