"""Models that also see or hear: their classes without what they do not need for text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedModel,
    TimmWrapperModel,
)

SENSES: Final = {"vision": "images", "audio": "audio", "speech": "audio", "video": "videos"}
"""What a config inside of a model's config is for, by a part of its name."""


def multimodal_class(config: Any, *, trusts_code: bool) -> type[PreTrainedModel] | None:
    """The class of a model that takes more than text; `None` for a model of text, and for one whose
    checkpoint has its text side alone."""
    if trusts_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return None
    whole: type[PreTrainedModel] | None
    whole = AutoModelForMultimodalLM._model_mapping.get(type(config), None)
    if whole is None or config.is_encoder_decoder:
        return None
    is_named = not config.architectures or whole.__name__ in config.architectures
    return whole if is_named or type(config) not in AutoModelForCausalLM._model_mapping else None


def senses(config: Any) -> tuple[str, ...]:
    """What a model could take besides text."""
    found = (SENSES[part] for name in config.sub_configs for part in SENSES if part in name)
    return tuple(dict.fromkeys(found))


def without_towers(whole: type[PreTrainedModel], config: Any) -> Any:
    """A class of the same name, whose instances have `None` where the towers were."""
    _spare_timm(config)

    def build(model: Any, *args: Any, **options: Any) -> None:
        whole.__init__(model, *args, **options)
        for path in list(_towers(model)):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, None)
            model._keys_to_ignore_on_load_unexpected.add(rf"^{re.escape(path)}\.")

    def attend(model: Any, how: Any, **options: Any) -> None:
        text = {key: how for key in ("", "text_config") if not key or key in config.sub_configs}
        whole.set_attn_implementation(model, text if isinstance(how, str) else how, **options)

    # transformers finds what it must convert in a checkpoint by the class's name, of its own
    # classes only.
    own = {"__init__": build, "set_attn_implementation": attend, "__module__": whole.__module__}
    return type(whole.__name__, (whole,), own)


def _towers(model: Any) -> Iterator[str]:
    """Where models with a config of their own kind are inside of the model; not those inside of
    such a one."""
    own = (type(model.config), type(model.config.get_text_config(decoder=True)))
    last = None
    for path, module in model.named_modules():
        if last is not None and path.startswith(f"{last}."):
            continue
        if isinstance(module, PreTrainedModel) and not isinstance(module.config, own):
            last = path
            yield path


class _NoTower(PreTrainedModel):
    """Has no weights, and is never called."""

    def forward(self) -> None:
        """Nothing: there is nothing to see."""


def _spare_timm(config: Any) -> None:
    """Towers of timm are not even built, as that needs the package."""
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if AutoModel._model_mapping.get(type(part), None) is TimmWrapperModel:
            part.__class__ = type("NoTowerConfig", (type(part),), {})
            AutoModel._model_mapping.register(type(part), _NoTower)
