"""What a model's generation_config.json asks for: applied, or reported as ignored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmserve.domain import AnswerRules, SamplingFields
from llmserve.engines.weights.generation_config import (
    GenerationFields,
    TokenIds,
    as_list,
    described,
    read_fields,
)

# These do not change an answer here, or are set elsewhere.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "transformers_version", "bos_token_id", "pad_token_id",
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
"""Values with which a field that is not applied has no effect."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """Defaults for requests, the ids that end an answer, and rules for every answer."""

    sampling: SamplingFields
    eos_ids: tuple[int, ...]
    rules: AnswerRules


def read_recommended(folder: Path, tokenizer: Any, max_context: int, vocab: int) -> Recommended:
    """A model's own recommendations.

    `tokenizer` is transformers'; `vocab` is how many tokens have a logit. An answer ends at the end
    tokens of either config or the tokenizer. Invalid values are left out and reported: a model that
    can be loaded is served in spite of them.
    """
    fields = read_fields(folder)
    ignored = list(fields.problems)
    ids = TokenIds(vocab, ignored)
    specials = _special_tokens(tokenizer)
    listed = fields.stop_strings
    stops = [text for text in listed if text not in specials]
    ends = ids.known("eos_token_id", fields.eos_ids)
    ends += [specials[text] for text in listed if text in specials]
    ends += ids.known("config.json: eos_token_id", fields.declared_ends)
    ends += as_list(tokenizer.eos_token_id)
    eos_ids = tuple(dict.fromkeys(i for i in ends if 0 <= i < vocab))
    words = fields.bad_words
    suppressed = ids.known("suppress_tokens", fields.suppressed)
    alone = [word[0] for word in words if len(word) == 1]
    # As in transformers: banning an end token would keep answers from ending.
    suppressed += [i for i in ids.known("bad_words_ids", alone) if i not in eos_ids]
    ignored += _ignored(fields, max_context)
    longer = [word for word in words if len(word) > 1]
    banned = [word for word in longer if ids.known("bad_words_ids", word) == list(word)]
    if hidden := [text for text in stops if any(special in text for special in specials)]:
        ignored.append(described("stop_strings", hidden, "answers contain no special tokens"))
        stops = [text for text in stops if text not in hidden]
    return Recommended(
        sampling=fields.sampling,
        eos_ids=eos_ids,
        rules=AnswerRules(
            stop=tuple(stops),
            suppressed=tuple(dict.fromkeys(suppressed)),
            banned=tuple(dict.fromkeys(banned)),
            ignored=tuple(ignored),
        ),
    )


def _ignored(fields: GenerationFields, max_context: int) -> list[str]:
    """Every field that has an effect and is not applied, with its value."""
    ignored = []
    for name, value in fields.others.items():
        is_none = value in _NEUTRAL.get(name, ()) or (
            name == "max_length" and isinstance(value, int) and value >= max_context
        )
        if name not in _WITHOUT_EFFECT and not is_none:
            ignored.append(described(name, value))
    if fields.greedy_temperature:
        ignored.append(described("temperature", fields.greedy_temperature, "do_sample is false"))
    return ignored


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """Texts of tokens that are left out of answers, with their ids."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    specials = {str(token): token_id for token_id, token in added.items() if token.special}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return specials | {str(token): token_id for token, token_id in named if token_id is not None}
