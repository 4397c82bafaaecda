"""What a tokenizer tells of itself, for clients that render or count prompts: no paths in it."""

from __future__ import annotations

from typing import Any, Final

MOST: Final = 2**53
"""Some tokenizers have a number without meaning for their longest text."""


def description_of(hf_tokenizer: Any, chat_template: str) -> dict[str, Any]:
    """Class, special tokens, added tokens and chat template, by tokenizer_config.json's names."""
    longest = getattr(hf_tokenizer, "model_max_length", None)
    told = {
        "tokenizer_class": type(hf_tokenizer).__name__,
        "vocab_size": len(hf_tokenizer),
        "model_max_length": longest if isinstance(longest, int) and longest < MOST else None,
        "chat_template": chat_template or None,
        "added_tokens_decoder": {
            str(token_id): _added(token) for token_id, token in _added_tokens(hf_tokenizer)
        },
    }
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
    return told | {name: _text(getattr(hf_tokenizer, name, None)) for name in names}


def _added_tokens(hf_tokenizer: Any) -> list[tuple[int, Any]]:
    return sorted(getattr(hf_tokenizer, "added_tokens_decoder", {}).items())


def _added(token: Any) -> dict[str, Any]:
    return {
        "content": str(token.content),
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
        "special": token.special,
    }


def _text(token: Any) -> str | None:
    return None if token is None else str(token)
