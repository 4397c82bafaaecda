"""What GET /info tells of a model: as text-generation-inference does of one that generates, and as
text-embeddings-inference of one that encodes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from llmserve.api.encoding_body import MAX_INPUTS
from llmserve.api.sampling_body import MAX_STOPS
from llmserve.domain import EncodingInfo, EncodingPurpose
from llmserve.registry.served import ServedModel


def told_model(model: ServedModel) -> dict[str, Any]:
    """The model, which is loaded, and what requests may be."""
    engine = model.loaded_engine
    info, longest = engine.info, engine.info.max_context
    told = {
        "model_id": model.spec.name,
        "model_sha": None,
        "model_dtype": info.dtype,
        "max_concurrent_requests": engine.capacity,
        "version": version("llmserve"),
        "sha": None,
        "docker_label": None,
    }
    if info.encoding is not None:
        return told | {
            "model_type": _type(info.encoding),
            "max_input_length": longest,
            "max_client_batch_size": MAX_INPUTS,
            "auto_truncate": False,
        }
    return told | {
        "model_pipeline_tag": "text-generation",
        "model_device_type": info.device.partition(":")[0],
        "max_best_of": 1,
        "max_stop_sequences": MAX_STOPS,
        "max_input_tokens": None if longest is None else longest - 1,
        "max_total_tokens": longest,
        "max_client_batch_size": 1,
        "router": "llmserve",
    }


def _type(encoding: EncodingInfo) -> dict[str, Any]:
    if EncodingPurpose.EMBEDDING in encoding.purposes:
        return {"embedding": {}}
    kind = "classifier" if encoding.labels else "reranker"
    labels = encoding.labels or ("LABEL_0",)
    return {
        kind: {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    }
