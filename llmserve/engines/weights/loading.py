"""From a `ModelSpec` to weights in memory. Everything here blocks: call it in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from loguru import logger
from transformers import AutoTokenizer, GenerationConfig, modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

from llmserve.domain import (
    AnswerRules,
    EngineInfo,
    EngineKind,
    LoadProgress,
    ModelSpec,
    Quantization,
    SamplingFields,
)
from llmserve.engines.accelerator import as_device_loss, make_current
from llmserve.engines.idle_gpus import why_idle
from llmserve.engines.weights.checkpoint import Checkpoint, NoCheckpoint, checkpoint_in
from llmserve.engines.weights.devices import Placement, place
from llmserve.engines.weights.fingerprint import fingerprint, hash_of_files
from llmserve.engines.weights.footprint import footprint
from llmserve.engines.weights.hub_kernels import close_to_requests, fetching
from llmserve.engines.weights.methods import require_packages
from llmserve.engines.weights.packed import num_bytes, num_parameters
from llmserve.engines.weights.packing import packing_of, packing_of_gguf
from llmserve.engines.weights.processor_template import take_processor_template
from llmserve.engines.weights.recommended import read_recommended
from llmserve.engines.weights.text_model import (
    as_text_model,
    check_weights,
    class_to_load,
    config_of_writer,
    told_of_senses,
)
from llmserve.errors import InvalidRequest, ModelBroken
from llmserve.text.output.choice import choose_syntax
from llmserve.text.output.output_reader import OutputReader
from llmserve.text.tokenizer import Tokenizer

EXACT: Final = ("torchao", "int8")
"""Methods whose packed weights compute in the model's type."""

CONTEXTS: Final = ("max_position_embeddings", "max_seq_len")
"""What configs call the maximum context."""
DEFAULT_CONTEXT: Final = 2048
"""For the rare config without one, as Mamba's, where nobody asks for another."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to generate.

    `sampling` is what its generation_config.json recommends, `rules` what it requires of every
    answer; `eos_ids` end an answer. `warnings` are for the operator. `reader` knows what the text
    of an answer means. `architecture` is the family, as the config of the whole checkpoint has it.
    """

    model: Any
    tokenizer: Tokenizer
    eos_ids: tuple[int, ...]
    pad_id: int
    sampling: SamplingFields
    max_context: int
    device: torch.device
    placement: str
    dtype: str
    parameters: int
    weight_bytes: int
    rules: AnswerRules = field(default_factory=AnswerRules)
    warnings: tuple[str, ...] = ()
    hash_of_files: str = ""
    reader: OutputReader | None = None
    quantization: Quantization | None = None
    architecture: str = ""

    @property
    def vocab(self) -> int:
        """How many tokens have a logit."""
        return vocab_of(self.model)

    @property
    def precision(self) -> torch.dtype:
        """The type by whose rounding its logits may differ from one computation to the next:
        kernels for packed weights compute in half precision, whatever the model's type is."""
        packed = self.quantization
        if packed is None or packed.is_expanded or packed.method in EXACT:
            return self.model.dtype  # type: ignore[no-any-return]  # of transformers
        return torch.bfloat16

    def info(self, kind: EngineKind, why: str) -> EngineInfo:
        """The model as an engine of this kind serves it, chosen for this reason."""
        packed = () if self.quantization is None else (str(self.quantization),)
        return EngineInfo(
            kind=kind,
            why=why,
            device=self.placement,
            dtype=self.dtype,
            max_context=self.max_context,
            parameters=self.parameters,
            weight_bytes=self.weight_bytes,
            sampling=self.sampling,
            rules=self.rules,
            eos_ids=self.eos_ids,
            warnings=(*self.warnings, *self.tokenizer.warnings),
            architecture=self.architecture,
            takes_conversations=self.tokenizer.has_template,
            syntax=None if self.reader is None else self.reader.info,
            fingerprint=fingerprint(
                self.hash_of_files, kind, self.device.type, self.dtype, *packed
            ),
            quantization=self.quantization,
        )


def vocab_of(model: Any) -> int:
    """How many tokens have a logit: a config may name more than the head has rows."""
    count: int = model.config.get_text_config(decoder=True).vocab_size
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    rows = getattr(head, "out_features", None if weight is None else len(weight))
    return count if rows is None else min(count, rows)


def load_model(
    spec: ModelSpec, folder: Path, on_progress: Callable[[LoadProgress], None]
) -> LoadedModel:
    """Load tokenizer and weights from a folder.

    Raises:
        ModelBroken: anything is missing, unreadable or does not fit; says what.
    """
    try:
        on_progress(LoadProgress("tokenizer"))
        checkpoint = checkpoint_in(folder, spec.gguf_file)
        tokenizer = _load_tokenizer(spec, folder, checkpoint)
        take_processor_template(tokenizer, folder)
        on_progress(LoadProgress("weights", 0.0))
        with report_weights(on_progress):
            return _load(spec, folder, checkpoint, tokenizer)
    except ModelBroken:
        raise
    except NoCheckpoint as reason:
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


def _load_tokenizer(spec: ModelSpec, folder: Path, checkpoint: Checkpoint) -> Any:
    arguments: dict[str, Any] = {}
    if checkpoint.gguf_file is not None and not (folder / "tokenizer.json").is_file():
        require_packages(spec.name, "gguf")
        arguments["gguf_file"] = checkpoint.gguf_file
    return AutoTokenizer.from_pretrained(
        folder, trust_remote_code=spec.trust_remote_code, local_files_only=True, **arguments
    )


def _load(spec: ModelSpec, folder: Path, checkpoint: Checkpoint, hf_tokenizer: Any) -> LoadedModel:
    needed = footprint(replace(spec, path=folder), None)
    placement = place(spec.device, 0 if needed is None else needed.weights)
    warnings = check_gpu(spec, placement)
    if placement.device is not None:
        make_current(torch.device(placement.device))
    trust: dict[str, Any] = {
        "trust_remote_code": spec.trust_remote_code,
        "local_files_only": True,
    }
    close_to_requests()
    device = torch.device(placement.device or "cuda")
    if checkpoint.gguf_file is not None:
        config = config_of_writer(folder, gguf_file=checkpoint.gguf_file, **trust)
        packing = packing_of_gguf(spec, folder / checkpoint.gguf_file)
    else:
        config = config_of_writer(folder, **trust)
        packing = packing_of(spec, config, device)
        packing.applied_to(config)
        if not checkpoint.is_pickled:
            # Otherwise transformers would prefer a single file to an index.
            config.transformers_weights = checkpoint.entry
    family = class_to_load(config, trusts_code=spec.trust_remote_code)
    arguments = {"dtype": dtype_of(spec.dtype), **packing.arguments, **trust}
    with as_device_loss(device), fetching():
        model, told = family.from_pretrained(
            folder,
            config=config,
            device_map=placement.device_map or placement.device,
            use_safetensors=not checkpoint.is_pickled,
            weights_only=True,
            generation_config=GenerationConfig(),  # otherwise it reads the file and may raise
            output_loading_info=True,
            **arguments,
        )
        check_weights(spec.name, folder, told["missing_keys"])
        model = as_text_model(spec.name, packing.finish(model).eval())
    _take_custom_generate(model, folder, spec)
    max_context = _max_context(model.config, spec)
    recommended = read_recommended(folder, hf_tokenizer, max_context, vocab_of(model))
    if recommended.rules.ignored:
        logger.warning(
            "model {}: ignored in its generation_config.json: {}",
            spec.name,
            "; ".join(recommended.rules.ignored),
        )
    eos_ids = recommended.eos_ids
    pad_id = next((i for i in (hf_tokenizer.pad_token_id, *eos_ids) if i is not None), 0)
    # Every parameter is decided per request; the model's own defaults must not interfere.
    model.generation_config = GenerationConfig(pad_token_id=pad_id)
    tokenizer = Tokenizer(
        hf_tokenizer,
        spec.chat_template,
        model.get_input_embeddings().num_embeddings,
        parse_special_tokens=spec.parse_special_tokens,
    )
    _check_stops(spec, tokenizer)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        eos_ids=eos_ids,
        pad_id=pad_id,
        sampling=recommended.sampling,
        max_context=max_context,
        device=model.get_input_embeddings().weight.device,
        placement=str(placement),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=num_parameters(model, is_packed=packing.is_packed),
        weight_bytes=num_bytes(model, is_packed=packing.is_packed),
        rules=recommended.rules,
        warnings=(
            *warnings,
            *packing.warnings,
            *told_of_senses(config, trusts_code=spec.trust_remote_code),
        ),
        quantization=packing.quantization,
        hash_of_files=hash_of_files(folder, sorted(checkpoint.names)),
        reader=_reader(spec, hf_tokenizer, config.model_type),
        architecture=config.model_type,
    )


def _check_stops(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    try:
        tokenizer.check(spec.sampling.stop_token_ids or (), param="stop_token_ids")
    except InvalidRequest as error:
        raise ModelBroken(
            f"model {spec.name!r} has wrong stop_token_ids in its model.toml: {error.message}"
        ) from error


def _reader(spec: ModelSpec, hf_tokenizer: Any, model_type: str) -> OutputReader:
    """How answers are read; the log says why so."""
    own = hf_tokenizer.chat_template
    templates = own.values() if isinstance(own, dict) else [own or ""]
    source = spec.chat_template or "\n".join(templates)
    chosen = choose_syntax(hf_tokenizer, source, model_type, spec.output_syntax)
    logger.info("model {}: answers are read as {}: {}", spec.name, chosen.name, chosen.why)
    return OutputReader(chosen, hf_tokenizer)


def _take_custom_generate(model: Any, folder: Path, spec: ModelSpec) -> None:
    """As transformers does when it reads generation_config.json itself."""
    if not spec.trust_remote_code or not hasattr(model, "load_custom_generate"):
        return
    with contextlib.suppress(OSError):  # there is none
        generate = model.load_custom_generate(folder, trust_remote_code=True, local_files_only=True)
        model.generate = partial(generate, model=model)


def check_gpu(spec: ModelSpec, placement: Placement) -> tuple[str, ...]:
    """A warning if `auto` means the CPU on a machine that has GPUs.

    Raises:
        ModelBroken: a GPU is required.
    """
    if spec.device != "auto" or placement.device != "cpu":
        return ()
    reason = why_idle()
    if spec.require_gpu:
        raise ModelBroken(
            f"model {spec.name!r} must be on a GPU (require_gpu) and there is none that works: "
            f"{reason or 'this machine has none, or CUDA_VISIBLE_DEVICES names none'}"
        )
    if reason is None:
        return ()
    return (f"it is served by the CPU although this machine has GPUs: {reason}",)


def dtype_of(name: str) -> torch.dtype | str:
    """A setting as transformers takes it."""
    return "auto" if name == "auto" else getattr(torch, name)


def _max_context(config: Any, spec: ModelSpec) -> int:
    text_config = config.get_text_config(decoder=True)
    found = (getattr(text_config, name, None) for name in CONTEXTS)
    limit = next((int(number) for number in found if number), None)
    if limit is None:
        return spec.max_context or DEFAULT_CONTEXT
    return limit if spec.max_context is None else min(limit, spec.max_context)


@contextlib.contextmanager
def report_weights(on_progress: Callable[[LoadProgress], None]) -> Iterator[None]:
    """Turn the progress bar that transformers would draw into progress reports."""

    def hook(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        total = kwargs.get("total") or (len(items) if isinstance(items, Sized) else 0)
        if items is None or not total:
            return factory(*args, **kwargs | {"disable": True})
        return _Reported(items, total, on_progress)

    def of_gguf(items: Any, **kwargs: Any) -> _Reported:
        return _Reported(items, max(1, len(items)), on_progress)

    previous = transformers_logging.set_tqdm_hook(hook)
    transformers.utils.logging.disable_progress_bar()
    bar = modeling_gguf_pytorch_utils.tqdm  # drawn past the hook
    modeling_gguf_pytorch_utils.tqdm = of_gguf
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
        modeling_gguf_pytorch_utils.tqdm = bar


class _Reported:
    """An iterable that reports how far it has been read; replaces a progress bar."""

    def __init__(self, items: Any, total: int, on_progress: Callable[[LoadProgress], None]) -> None:
        self._items = items
        self._total = total
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items):
            self._on_progress(LoadProgress("weights", done / self._total))
            yield item

    def __enter__(self) -> _Reported:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def set_postfix(self, *args: object, **kwargs: object) -> None:
        """Ignored: there is nothing to draw."""
