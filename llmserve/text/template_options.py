"""Further variables of a chat template that a caller sets."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from llmserve.errors import InvalidRequest
from llmserve.text.taint import tainted

PARAM: Final = "chat_template_kwargs"

RESERVED: Final = frozenset(
    (
        *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"),
        *("chat_template", "conversation", "tokenize", "tokenizer_kwargs", "self"),
        *("padding", "truncation", "max_length", "return_tensors", "return_dict"),
        *("return_assistant_tokens_mask", "sanitize_control_tokens"),
        *("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"),
        *("mask_token", "additional_special_tokens"),
    )
)
"""What a template gets from the server, and the parameters of transformers' own renderer."""


def template_options(source: str, reserved: Collection[str]) -> dict[str, Any]:
    """The variables by name, every string in their values `Tainted`.

    `source` is a JSON object's text; `reserved` are names besides `RESERVED` that callers may not
    set.

    Raises:
        InvalidRequest: no JSON object, or a name that is not the caller's to set.
    """
    try:
        options = json.loads(source)
        values = tainted(options)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{PARAM} cannot be read: {error}", param=PARAM) from None
    if not isinstance(options, dict):
        raise InvalidRequest(f"{PARAM} must be a JSON object", param=PARAM)
    for name in options:
        if name in RESERVED or name in reserved:
            raise InvalidRequest(
                f"{name[:100]} is set by the server and not in {PARAM}; leave it out",
                param=f"{PARAM}.{name}",
            )
    return {name: values[name] for name in options}
