"""Reads generation_config.json: checks every value and reports every bad one. Applies none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from transformers import GenerationConfig

from llmserve.domain import SamplingFields

FILE: Final = "generation_config.json"
MODEL_FILE: Final = "config.json"
MAX_SHOWN: Final = 60
"""Characters shown of a value that is not applied."""
MAX_COMPLAINT: Final = 200
MAX_NUMBER: Final = 2**31 - 1

TokenId = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Text = Annotated[str, Field(min_length=1)]

SCHEMA: Final[Mapping[str, Any]] = {
    "do_sample": bool,
    "temperature": Annotated[float, Field(ge=0, le=2)],
    "top_p": Annotated[float, Field(gt=0, le=1)],
    "top_k": Annotated[int, Field(ge=-1, le=MAX_NUMBER)],
    "min_p": Annotated[float, Field(ge=0, le=1)],
    "repetition_penalty": Annotated[float, Field(gt=0, le=10)],
    "max_new_tokens": Annotated[int, Field(ge=1, le=MAX_NUMBER)],
    "min_new_tokens": Annotated[int, Field(ge=0, le=MAX_NUMBER)],
    "stop_strings": str | list[str],
    "suppress_tokens": list[TokenId],
    "bad_words_ids": list[Annotated[list[TokenId], Field(min_length=1)]],
    "eos_token_id": TokenId | list[TokenId],
}
"""The fields that are applied. The bounds are those of `[sampling]` in a model.toml."""


@dataclass(frozen=True, slots=True)
class GenerationFields:
    """The valid fields of the file.

    Attributes:
        declared_ends: the end tokens in config.json, which may have some even if
            generation_config.json has none.
        others: fields that are not applied.
        greedy_temperature: a temperature given together with `do_sample: false`.
        problems: what is wrong with the files, by key.
    """

    sampling: SamplingFields
    stop_strings: tuple[str, ...]
    suppressed: tuple[int, ...]
    bad_words: tuple[tuple[int, ...], ...]
    eos_ids: tuple[int, ...]
    declared_ends: tuple[int, ...]
    others: Mapping[str, Any]
    greedy_temperature: float | None
    problems: tuple[str, ...]


class TokenIds:
    """Drops token ids that have no logit, and adds them to `problems`."""

    def __init__(self, vocab: int, problems: list[str]) -> None:
        self._vocab = vocab
        self._problems = problems

    def known(self, name: str, ids: Iterable[int]) -> list[int]:
        """Those in the vocabulary."""
        ids = list(ids)
        if strange := [i for i in ids if not 0 <= i < self._vocab]:
            why = f"outside the vocabulary of {self._vocab} tokens"
            self._problems.append(described(name, strange, why))
        return [i for i in ids if 0 <= i < self._vocab]


def read_fields(folder: Path) -> GenerationFields:
    """The fields in a model's folder; without the file, those that old configs contain."""
    problems: list[str] = []
    config = _read_object(folder / MODEL_FILE, problems)
    given = _read_object(folder / FILE, problems)
    if given is None:
        given = _from_model_config(config or {}, problems)
    given = {k: v for k, v in given.items() if v is not None and not k.startswith("_")}
    good = {
        name: value
        for name, value in given.items()
        if name in SCHEMA and _is_good(name, value, problems)
    }
    is_greedy = good.get("do_sample") is False
    top_k = good.get("top_k")
    return GenerationFields(
        sampling=SamplingFields(
            temperature=0.0 if is_greedy else good.get("temperature"),
            top_p=good.get("top_p"),
            top_k=None if top_k is None else max(0, top_k),
            min_p=good.get("min_p"),
            repetition_penalty=good.get("repetition_penalty"),
            max_tokens=good.get("max_new_tokens"),
            min_tokens=good.get("min_new_tokens"),
        ),
        stop_strings=tuple(text for text in as_list(good.get("stop_strings")) if text),
        suppressed=tuple(good.get("suppress_tokens", ())),
        bad_words=tuple(tuple(word) for word in good.get("bad_words_ids", ())),
        eos_ids=tuple(as_list(good.get("eos_token_id"))),
        declared_ends=tuple(_declared_ends(config or {}, problems)),
        others={name: value for name, value in given.items() if name not in SCHEMA},
        greedy_temperature=good.get("temperature") if is_greedy else None,
        problems=tuple(problems),
    )


def described(name: str, value: Any, why: str = "") -> str:
    """A field that is not applied, for the operator."""
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"
    return f"{name} = {shown}" + (f" ({why})" if why else "")


def _read_object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The object in a file; `None` if the file is missing or bad."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {str(error)[:MAX_COMPLAINT]}")
        return None
    if not isinstance(value, dict):
        problems.append(f"{path.name} cannot be read: it is {_shown_kind(value)}, not an object")
        return None
    return value


def _shown_kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{json.dumps(value)[:MAX_SHOWN]}"


def _from_model_config(config: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """What transformers reads where there is no generation_config.json."""
    try:
        return dict(vars(GenerationConfig.from_model_config(dict(config))))
    # It may raise anything on values that it does not expect.
    except Exception as error:
        complaint = f"{type(error).__name__}: {error}"[:MAX_COMPLAINT]
        problems.append(f"what {MODEL_FILE} says about generation cannot be read: {complaint}")
        return {}


def _is_good(name: str, value: Any, problems: list[str]) -> bool:
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problems.append(described(name, value, first["msg"].removeprefix("Input ")))
        return False
    return True


def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(SCHEMA[name], config=ConfigDict(strict=True, allow_inf_nan=False))


def _declared_ends(config: dict[str, Any], problems: list[str]) -> list[int]:
    parts = (config, config.get("text_config") or {})
    found = [
        i for part in parts if isinstance(part, dict) for i in as_list(part.get("eos_token_id"))
    ]
    if strange := [i for i in found if i is not None and type(i) is not int]:
        problems.append(
            described(f"{MODEL_FILE}: eos_token_id", strange, "should be valid integers")
        )
    return [i for i in found if type(i) is int]


def as_list(value: Any) -> list[Any]:
    """The value, which may be missing or alone, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
