"""What a model's generation_config.json asks for: followed, or told that it is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import GenerationConfig

from llmserve.domain import AnswerRules, SamplingFields

# What these say does not change an answer here, or is asked for elsewhere.
_OF_NO_EFFECT: Final = frozenset(
    {
        "transformers_version", "bos_token_id", "pad_token_id", "eos_token_id",
        "decoder_start_token_id", "use_cache", "cache_implementation", "cache_config",
        "max_cache_len", "prefill_chunk_size", "compile_config", "disable_compile", "low_memory",
        "continuous_batching_config", "return_dict_in_generate", "num_return_sequences",
        "renormalize_logits", "remove_invalid_values", "encoder_repetition_penalty",
        "encoder_no_repeat_ngram_size", "is_assistant", "num_assistant_tokens",
        "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_early_exit",
        "assistant_lookbehind", "assistant_ensemble_weight", "target_lookbehind",
        "prompt_lookup_num_tokens", "max_matching_ngram_size", "speculation_type", "use_mtp",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    }
)  # fmt: skip
_FOLLOWED: Final = frozenset(
    {
        "do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
        "max_new_tokens", "min_new_tokens", "stop_strings", "suppress_tokens", "bad_words_ids",
    }
)  # fmt: skip
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "early_stopping": (False,),
    "length_penalty": (1.0,),
    "diversity_penalty": (0.0,),
    "no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "typical_p": (1.0,),
    "top_h": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "penalty_alpha": (0.0,),
    "guidance_scale": (1.0,),
    "token_healing": (False,),
}
"""Values with which a field that is not followed asks for nothing."""

MAX_SHOWN: Final = 60
"""Characters of a value that is not followed."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """What holds where a request is silent, what ends an answer, and what holds always."""

    sampling: SamplingFields
    eos_ids: tuple[int, ...]
    rules: AnswerRules


def read_recommended(
    config: GenerationConfig, folder: Path, tokenizer: Any, max_context: int
) -> Recommended:
    """A model's own recommendations; `config` is its generation_config.json, `tokenizer` that of
    transformers. An answer ends at what either config or the tokenizer call its end."""
    fields = {k: v for k, v in vars(config).items() if v is not None and not k.startswith("_")}
    specials = _special_tokens(tokenizer)
    listed = [str(text) for text in _listed(fields.get("stop_strings"))]
    stops = [text for text in listed if text not in specials]
    ends = _listed(fields.get("eos_token_id"))
    ends += [specials[text] for text in listed if text in specials]
    ends += [*_declared_ends(folder), *_listed(tokenizer.eos_token_id)]
    eos_ids = tuple(dict.fromkeys(int(token_id) for token_id in ends))
    words = [tuple(word) for word in _listed(fields.get("bad_words_ids"))]
    suppressed = [int(token_id) for token_id in _listed(fields.get("suppress_tokens"))]
    # As in transformers: a word that is the end alone would keep answers from ending.
    suppressed += [word[0] for word in words if len(word) == 1 and word[0] not in eos_ids]
    ignored = _ignored(fields, max_context)
    if long := [word for word in words if len(word) > 1]:
        ignored.append(_told("bad_words_ids", long, "of several tokens"))
    if hidden := [text for text in stops if any(special in text for special in specials)]:
        ignored.append(_told("stop_strings", hidden, "answers are without special tokens"))
        stops = [text for text in stops if text not in hidden]
    return Recommended(
        sampling=_sampling(fields),
        eos_ids=eos_ids,
        rules=AnswerRules(
            stop=tuple(text for text in stops if text),
            suppressed=tuple(dict.fromkeys(suppressed)),
            ignored=tuple(ignored),
        ),
    )


def _sampling(fields: dict[str, Any]) -> SamplingFields:
    is_greedy = fields.get("do_sample") is False
    return SamplingFields(
        temperature=0.0 if is_greedy else fields.get("temperature"),
        top_p=fields.get("top_p"),
        top_k=fields.get("top_k"),
        min_p=fields.get("min_p"),
        repetition_penalty=fields.get("repetition_penalty"),
        max_tokens=fields.get("max_new_tokens"),
        min_tokens=fields.get("min_new_tokens"),
    )


def _ignored(fields: dict[str, Any], max_context: int) -> list[str]:
    """Every field that asks for what is not done here, with its value."""
    ignored = []
    for name, value in fields.items():
        is_none = value in _NEUTRAL.get(name, ()) or (name == "max_length" and value >= max_context)
        if name not in _FOLLOWED | _OF_NO_EFFECT and not is_none:
            ignored.append(_told(name, value))
    if fields.get("do_sample") is False and fields.get("temperature"):
        ignored.append(_told("temperature", fields["temperature"], "do_sample is false"))
    return ignored


def _told(name: str, value: Any, why: str = "") -> str:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"
    return f"{name} = {shown}" + (f" ({why})" if why else "")


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """Texts of tokens that are left out of answers, with their ids."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    specials = {str(token): token_id for token_id, token in added.items() if token.special}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return specials | {str(token): token_id for token, token_id in named if token_id is not None}


def _declared_ends(folder: Path) -> list[int]:
    """What config.json itself calls the end: a config has one also where its file has none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parts = (config, config.get("text_config") or {})
        return [i for part in parts for i in _listed(part.get("eos_token_id")) if i is not None]
    except (OSError, ValueError, AttributeError):
        return []


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
