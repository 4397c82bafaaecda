"""A checkpoint as a model of text: of one that also sees or hears, the text side alone.

It is loaded by the whole model's class, as only that knows where its checkpoints keep what, but
without its towers. What is left becomes the class for text alone, if there is one and its logits
are the same. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import torch
from loguru import logger
from transformers import AutoConfig, AutoModelForCausalLM

from llmserve.engines.weights.agreement import agree, probe
from llmserve.engines.weights.towers import multimodal_class, senses, without_towers
from llmserve.errors import ModelBroken

PROBE_TOKENS: Final = 24
SHOWN: Final = 5
"""At most so many weights are named in an error."""


def config_of_writer(folder: Path, **options: Any) -> Any:
    """The config of the model in a folder; of one that also speaks, that of the part that writes.

    `options` are `from_pretrained`'s.
    """
    config = AutoConfig.from_pretrained(folder, **options)
    return getattr(config, "thinker_config", config)


def class_to_load(config: Any, *, trusts_code: bool) -> Any:
    """What has the `from_pretrained` for the checkpoint of this config."""
    whole = multimodal_class(config, trusts_code=trusts_code)
    return AutoModelForCausalLM if whole is None else without_towers(whole, config)


def told_of_senses(config: Any, *, trusts_code: bool) -> tuple[str, ...]:
    """A warning if the model of this config could take more than text."""
    if multimodal_class(config, trusts_code=trusts_code) is None:
        return ()
    what = " and ".join(senses(config)) or "what else it could take"
    return (f"it is served for text only: it takes no {what} here",)


def check_weights(name: str, folder: Path, missing: Collection[str]) -> None:
    """
    Raises:
        ModelBroken: weights are missing from the checkpoint, and random numbers in their place.
    """
    if missing:
        shown = sorted(missing)
        raise ModelBroken(
            f"model {name!r} cannot be loaded from {folder}: {len(shown)} of its weights are not "
            f"in the checkpoint ({', '.join(shown[:SHOWN])}{', …' if shown[SHOWN:] else ''})"
        )


def as_text_model(name: str, model: Any) -> Any:
    """The same modules in the class for text alone; the model itself where there is none, where
    the code is its own, where modules are packed or spread over devices, or the logits differ."""
    is_spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    is_packed = getattr(model, "hf_quantizer", None) is not None
    is_custom = not type(model).__module__.startswith("transformers.")
    text = None if is_spread or is_packed or is_custom else _rehoused(model)
    if text is None:
        return model
    text.eval()
    token_ids = probe(model, PROBE_TOKENS)
    with torch.inference_mode():
        expected = model(input_ids=token_ids, use_cache=False).logits
        actual = text(input_ids=token_ids, use_cache=False).logits
    if not agree(expected, actual, model.dtype):
        return model
    kinds = (type(model).__name__, type(text).__name__)
    logger.info("model {}: the text side of {} is served as {}", name, *kinds)
    return text


def _rehoused(model: Any) -> Any:
    """The model's decoder and head in the class for text alone; `None` if there is no such class,
    or no place in it for them."""
    config = model.config.get_text_config(decoder=True)
    family = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if family is None or config is model.config:
        return None
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if isinstance(decoder, family):
        return decoder
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config)
    places = [name for name, part in text.named_children() if type(part) is type(decoder)]
    if len(places) != 1 or head is None:
        return None
    setattr(text, places[0], decoder)
    text.set_output_embeddings(head)
    return text
