"""Loading a checkpoint as a model of text: of one that also sees or hears, the text side alone.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from loguru import logger
from transformers import AutoModelForCausalLM

from llmserve.engines.weights.agreement import agree, probe
from llmserve.engines.weights.towers import multimodal_class, senses, without_towers
from llmserve.errors import ModelBroken

PROBE_TOKENS: Final = 24
SHOWN: Final = 5
"""At most so many weights are named in an error."""


def load_text_model(name: str, folder: Path, config: Any, **options: Any) -> Any:
    """The weights of a folder as a model that continues text; `options` are `from_pretrained`'s.

    A model that also sees or hears is loaded by its own class, as only that knows where its
    checkpoints keep what, but without its towers. What is left becomes the class for text alone, if
    there is one and its logits are the same.

    Raises:
        ModelBroken: weights are missing from the checkpoint; names them.
    """
    config = getattr(config, "thinker_config", config)  # what writes, in a model that also speaks
    whole = multimodal_class(config, trusts_code=bool(options.get("trust_remote_code")))
    family = AutoModelForCausalLM if whole is None else without_towers(whole, config)
    model, found = family.from_pretrained(
        folder, config=config, output_loading_info=True, **options
    )
    _check_weights(name, folder, found)
    model.eval()
    if whole is None:
        return model
    text = _text_class(model)
    logger.info(
        "model {}: {} is loaded as {}, for text only, without its part for {}",
        name,
        whole.__name__,
        type(text).__name__,
        " and ".join(senses(config)) or "what else it takes",
    )
    return text


def told_of_senses(config: Any, *, trusts_code: bool) -> tuple[str, ...]:
    """A warning if the model of this config could take more than text."""
    config = getattr(config, "thinker_config", config)
    if multimodal_class(config, trusts_code=trusts_code) is None:
        return ()
    what = " and ".join(senses(config)) or "what else it could take"
    return (f"it is served for text only: it takes no {what} here",)


def _text_class(model: Any) -> Any:
    """The same modules in the class for text alone; the model itself, where that differs."""
    is_spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    is_packed = getattr(model, "hf_quantizer", None) is not None
    text = None if is_spread or is_packed else _rehoused(model)
    if text is None:
        return model
    text.eval()
    token_ids = probe(model, PROBE_TOKENS)
    with torch.inference_mode():
        expected = model(input_ids=token_ids, use_cache=False).logits
        actual = text(input_ids=token_ids, use_cache=False).logits
    return text if agree(expected, actual, model.dtype) else model


def _rehoused(model: Any) -> Any:
    """The model's decoder and head in the class for text alone; `None` if there is no such class,
    or no place in it for them."""
    config = model.config.get_text_config(decoder=True)
    family = AutoModelForCausalLM._model_mapping.get(type(config), None)
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if family is None or head is None or config is model.config:
        return None
    if isinstance(decoder, family):
        return decoder
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config)
    places = [name for name, part in text.named_children() if type(part) is type(decoder)]
    if len(places) != 1:
        return None
    setattr(text, places[0], decoder)
    text.set_output_embeddings(head)
    return text


def _check_weights(name: str, folder: Path, found: Any) -> None:
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelBroken(
            f"model {name!r} cannot be loaded from {folder}: {len(missing)} of its weights are not "
            f"in the checkpoint ({', '.join(missing[:SHOWN])}{', …' if missing[SHOWN:] else ''})"
        )
