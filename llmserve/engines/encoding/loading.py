"""From a `ModelSpec` to an encoder in memory. Everything here blocks: call it in a thread."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from llmserve.domain import EncodingInfo, EncodingPurpose, LoadProgress, ModelSpec
from llmserve.engines.accelerator import as_device_loss, make_current
from llmserve.engines.encoding.files import EncoderFiles, check_scoring, read_files
from llmserve.engines.encoding.inputs import InputTokenizer
from llmserve.engines.encoding.layers import activation, load_layer
from llmserve.engines.encoding.unsupported import UnsupportedEncoder
from llmserve.engines.weights.checkpoint import NoCheckpoint, checkpoint_in
from llmserve.engines.weights.devices import place
from llmserve.engines.weights.fingerprint import hash_of_files
from llmserve.engines.weights.footprint import stored_bytes
from llmserve.engines.weights.loading import check_gpu, dtype_of, report_weights
from llmserve.engines.weights.purpose import SETTINGS, number_of_labels, purposes_in, read_json
from llmserve.errors import ModelBroken
from llmserve.text.tokenizer import Tokenizer

UNBOUNDED: Final = 10**9
"""Tokenizers without a maximum length say one that is larger."""
DEFAULT_CONTEXT: Final = 512


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """A model ready to encode.

    Attributes:
        takes: the names of what its `forward` takes.
        layers: what comes after pooling.
        activation: from a logit to a score, of a cross-encoder.
        takes_several: whether an input may be of several classes at once.
        max_context: tokens of an input.
        first_position: the number of the first one, as the model counts them.
        warnings: for the operator.
    """

    model: Any
    takes: frozenset[str]
    tokenizer: Tokenizer
    inputs: InputTokenizer
    files: EncoderFiles
    layers: tuple[nn.Module, ...]
    activation: nn.Module
    encoding: EncodingInfo
    takes_several: bool
    max_context: int
    first_position: int
    pad_id: int
    device: torch.device
    placement: str
    parameters: int
    weight_bytes: int
    warnings: tuple[str, ...]
    hash_of_files: str

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.model.dtype).removeprefix("torch.")


def load_encoder(
    spec: ModelSpec, folder: Path, on_progress: Callable[[LoadProgress], None]
) -> LoadedEncoder:
    """Load tokenizer and weights from a folder.

    Raises:
        ModelBroken: anything is missing, unreadable, not supported or does not fit; says what.
    """
    try:
        return _load(spec, folder, on_progress)
    except ModelBroken:
        raise
    except (UnsupportedEncoder, NoCheckpoint) as reason:
        raise ModelBroken(
            f"model {spec.name!r} cannot be loaded from {folder}: {reason}"
        ) from reason
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelBroken(f"not enough memory to load {spec.name!r} from {folder}") from error
    # transformers, safetensors and custom code raise whatever they like on a broken folder.
    except Exception as error:
        raise ModelBroken(
            f"model {spec.name!r} cannot be loaded from {folder}: {type(error).__name__}: {error}"
        ) from error


def _load(
    spec: ModelSpec, folder: Path, on_progress: Callable[[LoadProgress], None]
) -> LoadedEncoder:
    purposes = purposes_in(folder, spec.engine, is_described=spec.encoding is not None)
    embeds = EncodingPurpose.EMBEDDING in purposes
    if not embeds:
        check_scoring(folder)
    files = read_files(folder, spec.encoding) if embeds else EncoderFiles(folder)
    checkpoint = checkpoint_in(files.weights)
    if checkpoint.gguf_file is not None:
        raise UnsupportedEncoder("GGUF files are served as models that generate, and no others")
    on_progress(LoadProgress("tokenizer"))
    trust: dict[str, Any] = {
        "trust_remote_code": spec.trust_remote_code,
        "local_files_only": True,
    }
    hf_tokenizer = AutoTokenizer.from_pretrained(files.weights, **trust)
    on_progress(LoadProgress("weights", 0.0))
    placement = place(spec.device, stored_bytes(files.weights))
    warnings = check_gpu(spec, placement)
    if placement.device is not None:
        make_current(torch.device(placement.device))
    config = AutoConfig.from_pretrained(files.weights, **trust)
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedEncoder(
            f"{config.model_type} has an encoder and a decoder; only models of one part are "
            "supported here"
        )
    if not checkpoint.is_pickled:
        config.transformers_weights = checkpoint.entry
    family = AutoModel if embeds else AutoModelForSequenceClassification
    with report_weights(on_progress), as_device_loss(torch.device(placement.device or "cuda")):
        model, found = family.from_pretrained(
            files.weights,
            config=config,
            dtype=dtype_of(spec.dtype),
            device_map=placement.device_map or placement.device,
            use_safetensors=not checkpoint.is_pickled,
            weights_only=True,
            output_loading_info=True,
            **trust,
        )
    _check_weights(found)
    model.eval()
    device = model.get_input_embeddings().weight.device
    layers = tuple(load_layer(layer, device) for layer in files.layers)
    tokenizer = Tokenizer(hf_tokenizer, None, model.get_input_embeddings().num_embeddings)
    weights = [p for module in (model, *layers) for p in module.parameters()]
    takes = frozenset(inspect.signature(model.forward).parameters)
    type_ids = "token_type_ids"
    return LoadedEncoder(
        model=model,
        takes=takes,
        tokenizer=tokenizer,
        inputs=InputTokenizer(
            hf_tokenizer,
            takes_type_ids=type_ids in takes and type_ids in hf_tokenizer.model_input_names,
            lowers_case=files.lowers_case,
        ),
        files=files,
        layers=layers,
        activation=_score_activation(folder, config) if not embeds else nn.Identity(),
        encoding=_info(purposes, files, config),
        takes_several=_takes_several(purposes, config),
        max_context=_max_context(spec, files, hf_tokenizer, model),
        first_position=_positions(model)[1],
        pad_id=hf_tokenizer.pad_token_id or 0,
        device=device,
        placement=str(placement),
        parameters=sum(p.numel() for p in weights),
        weight_bytes=sum(p.numel() * p.element_size() for p in weights),
        warnings=(*warnings, *files.warnings),
        hash_of_files=hash_of_files(files.weights, sorted(checkpoint.names)),
    )


def _check_weights(found: Any) -> None:
    """
    Raises:
        UnsupportedEncoder: the checkpoint lacks weights, and random numbers are in their place.
    """
    # What BERT's pooler says is not used, and few checkpoints for embeddings have it.
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name.split("."))
    if missing:
        raise UnsupportedEncoder(
            f"{len(missing)} weights are not in the checkpoint ({', '.join(missing[:3])}"
            f"{', …' if missing[3:] else ''}): it is for another architecture, or was not trained "
            "for this"
        )


def _info(purposes: tuple[EncodingPurpose, ...], files: EncoderFiles, config: Any) -> EncodingInfo:
    if EncodingPurpose.CLASSIFICATION in purposes:
        labels = {int(number): str(name) for number, name in config.id2label.items()}
        return EncodingInfo(purposes, labels=tuple(labels[i] for i in sorted(labels)))
    if EncodingPurpose.EMBEDDING not in purposes:
        return EncodingInfo(purposes)
    dimensions = config.get_text_config().hidden_size * len(files.pooling)
    for layer in files.layers:
        dimensions = int(layer.config.get("out_features", dimensions))
    return EncodingInfo(
        purposes,
        dimensions=dimensions,
        prompts=tuple(name for name, _ in files.prompts),
        is_normalized=files.is_normalized,
    )


def _takes_several(purposes: tuple[EncodingPurpose, ...], config: Any) -> bool:
    kind = getattr(config, "problem_type", None)
    if EncodingPurpose.CLASSIFICATION in purposes and kind == "regression":
        raise UnsupportedEncoder(
            f"it tells {number_of_labels(config.to_dict())} numbers that are no classes "
            "(problem_type regression)"
        )
    return bool(kind == "multi_label_classification")


def _score_activation(folder: Path, config: Any) -> nn.Module:
    """As sentence-transformers' CrossEncoder finds it."""
    settings = read_json(folder / SETTINGS)
    own = getattr(config, "sentence_transformers", None)
    name = settings.get("activation_fn") if isinstance(settings, dict) else None
    if name is None:
        name = own.get("activation_fn") if isinstance(own, dict) else None
    if name is None:
        name = getattr(config, "sbert_ce_default_activation_function", None)
    return nn.Sigmoid() if name is None else activation(name)


def _max_context(spec: ModelSpec, files: EncoderFiles, hf_tokenizer: Any, model: Any) -> int:
    """The tightest of what folder, tokenizer, positions and operator say."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    limits = [spec.max_context, files.max_tokens, _positions(model)[0]]
    if files.max_tokens is None:
        own = hf_tokenizer.model_max_length
        limits += [own if own < UNBOUNDED else None, positions]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    return min(known, default=DEFAULT_CONTEXT)


def _positions(model: Any) -> tuple[int | None, int]:
    """How many positions have an embedding that counts, and the number of the first: where one is
    for padding, as RoBERTa has it, that comes after it."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first, first
    return None, 0
