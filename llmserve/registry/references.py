"""Checks that models named in settings and keys are served."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord, KeyState
from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.settings import Settings


def names_of(specs: Iterable[ModelSpec]) -> frozenset[str]:
    """Every name and alias of these models and their adapters."""
    return frozenset(name for spec in specs for name in spec.all_names)


def every_adapter(bases: Iterable[str]) -> tuple[str, ...]:
    """What keys and `pinned_models` write for all adapters of a model, by each of its names."""
    return tuple(f"{base}:*" for base in bases)


def check_settings(settings: Settings, served: Collection[str]) -> None:
    """Check that the default model and all pinned models are served.

    Raises:
        ConfigurationError: one is not; suggests the most similar name.
    """
    named = [("default_model", settings.default_model)]
    named += [("pinned_models", name) for name in settings.pinned_models]
    for setting, name in named:
        names = served if setting == "default_model" else _with_every_adapter(served)
        if name is not None and name not in names:
            raise ConfigurationError(
                f"{setting} names {name!r}, which is not served; {_hint(name, served)}"
            )


def check_keys(file: KeyFile, served: Collection[str], now: float) -> None:
    """Check that every valid key of the file permits at least one served model, or an adapter
    that may be loaded later.

    Raises:
        ConfigurationError: a key does not, or the file cannot be read.
    """
    for record in _limited(file.read(), now):
        models = record.models or ()
        may_come = any(name.rpartition(":")[0] in served for name in models)
        if not may_come and not set(models).intersection(served):
            raise ConfigurationError(f"key file {file.path}: {_complaint(record, served)}")


def complaints(records: Sequence[KeyRecord], served: Collection[str], now: float) -> list[str]:
    """Complaints about models that these keys name and that are not served; a line for each key."""
    names = _with_every_adapter(served)
    return [
        _complaint(record, names)
        for record in _limited(records, now)
        if not set(record.models or ()).issubset(names)
    ]


def _limited(records: Iterable[KeyRecord], now: float) -> Iterable[KeyRecord]:
    return (r for r in records if r.models is not None and r.state(now) is KeyState.ACTIVE)


def _complaint(record: KeyRecord, served: Collection[str]) -> str:
    unknown = [name for name in record.models or () if name not in served]
    are = "is" if len(unknown) == 1 else "are"
    listed = ", ".join(map(repr, unknown))
    return (
        f"key {record.name!r} is for {listed}, which {are} not served; {_hint(unknown[0], served)}"
    )


def _with_every_adapter(served: Collection[str]) -> frozenset[str]:
    return frozenset((*served, *every_adapter(served)))


def _hint(name: str, served: Collection[str]) -> str:
    near = difflib.get_close_matches(name, served, n=1)
    return f"did you mean {near[0]!r}?" if near else f"served are {', '.join(sorted(served))}"
