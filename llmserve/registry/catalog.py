"""Which models could be served: folders under `models_dir`, paths, hub ids."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from loguru import logger

from llmserve.domain import ModelSpec
from llmserve.engines.weights.checkpoint import GGUF_SUFFIX
from llmserve.engines.weights.purpose import MODULES
from llmserve.errors import ConfigurationError
from llmserve.registry.adapter_table import adapters_of
from llmserve.registry.hub_source import folder_name, hub_source
from llmserve.registry.manifest import MANIFEST, read_manifest
from llmserve.registry.spec_defaults import SpecDefaults
from llmserve.settings import Settings

PATH_PREFIXES: Final = ("/", "./", "../", "~")
EVERY_MODEL: Final = "*"
"""In `models_on_demand`: all of `models_dir`."""


class Catalog:
    """Turns what an operator writes into specs."""

    def __init__(self, models_dir: Path, defaults: SpecDefaults | None = None) -> None:
        self._models_dir = models_dir
        self._defaults = defaults or SpecDefaults()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The catalog of the models on this machine, with these settings."""
        return cls(settings.models_dir, SpecDefaults.from_settings(settings))

    def names(self) -> list[str]:
        """The folders that contain a model, sorted; hidden ones are unfinished downloads."""
        if not self._models_dir.is_dir():
            return []
        folders = self._models_dir.iterdir()
        return sorted(f.name for f in folders if not f.name.startswith(".") and _is_model(f))

    def resolve(self, argument: str) -> ModelSpec:
        """The spec for a name under `models_dir`, a path (starting with / . or ~) or a hub id; each
        may have `:adapter` after it, for one that is to be loaded with it.

        Raises:
            ConfigurationError: there is no such model or adapter, or its manifest is bad.
        """
        base, adapter = self.divided(argument)
        spec = self._resolve(base)
        _claim_names(spec, {})
        return spec if adapter is None else _with_initial(spec, adapter)

    def divided(self, argument: str) -> tuple[str, str | None]:
        """The argument of a model, and an adapter's name where there is one after it."""
        base, colon, adapter = argument.rpartition(":")
        is_path = argument.startswith(PATH_PREFIXES)
        folder = Path(argument).expanduser() if is_path else self._models_dir / argument
        return (base, adapter) if colon and not _is_model(folder) else (argument, None)

    def _resolve(self, argument: str) -> ModelSpec:
        if argument.startswith(PATH_PREFIXES):
            return self._defaults.applied_to(self._at_path(argument), argument)
        if argument in self.names():
            return self._defaults.applied_to(self._read(self._models_dir / argument), argument)
        if "/" in argument and _is_model(Path(argument)):
            raise ConfigurationError(f"{argument!r} is a folder here; write ./{argument}")
        source = hub_source(argument)
        if source is not None:
            hub_id, gguf_file = source
            spec = ModelSpec(
                # The name of the folder that it is downloaded to; the whole argument is an alias.
                name=folder_name(hub_id, gguf_file),
                hub_id=hub_id,
                gguf_file=gguf_file,
                aliases=(argument,),
                trust_remote_code=self._defaults.trust_remote_code,
                adapters=adapters_of(self._models_dir / folder_name(hub_id, gguf_file)),
            )
            return self._defaults.applied_to(spec, argument)
        raise ConfigurationError(f"there is no model {argument!r} in {self._models_dir}; "
                                 + self._hint(argument))  # fmt: skip

    def _at_path(self, argument: str) -> ModelSpec:
        path = Path(argument).expanduser()
        if path.suffix == GGUF_SUFFIX and path.is_file():
            return ModelSpec(
                name=path.stem,
                path=path.parent.resolve(),
                gguf_file=path.name,
                trust_remote_code=self._defaults.trust_remote_code,
            )
        if not _is_model(path):
            raise ConfigurationError(
                f"{argument} is not a model: it has neither config.json nor {MANIFEST}, and is no "
                f"{GGUF_SUFFIX} file"
            )
        return self._read(path)

    def resolve_untrusted(self, argument: str) -> ModelSpec:
        """Like `resolve`, for a name from the network, which must not be a path.

        Raises:
            ConfigurationError: also for a path.
        """
        if argument.startswith(PATH_PREFIXES):
            raise ConfigurationError(
                f"{argument[:100]!r} is a path; name a folder of {self._models_dir} or a hub id"
            )
        return self.resolve(argument)

    def resolve_all(self, arguments: Sequence[str]) -> list[ModelSpec]:
        """The specs for several models, of which no two may share a name or an alias. A model and
        its adapters may be named one by one.

        Raises:
            ConfigurationError: also if two share one.
        """
        specs = []
        for base, adapters in self._grouped(arguments):
            spec = self._resolve(base)
            for adapter in adapters:
                spec = _with_initial(spec, adapter)
            specs.append(spec)
        owners: dict[str, str] = {}
        for spec in specs:
            _claim_names(spec, owners)
        return specs

    def resolve_each(
        self, arguments: Sequence[str]
    ) -> tuple[list[ModelSpec], dict[str, ConfigurationError]]:
        """Like `resolve_all`, but one bad model does not affect the others: its spec has only a
        name, under which its error is returned. An adapter that is not there is logged."""
        specs: list[ModelSpec] = []
        errors: dict[str, ConfigurationError] = {}
        owners: dict[str, str] = {}
        for argument, adapters in self._grouped(arguments):
            try:
                spec = _with_those_there(self._resolve(argument), adapters)
                _claim_names(spec, owners)
            except ConfigurationError as error:
                logger.error("{}", error.message)
                name = Path(argument).name
                spec = ModelSpec(name, path=self._models_dir / argument, argument=argument)
                if name in owners:
                    continue  # its name is taken, so it cannot be listed
                owners[name], errors[name] = name, error
            specs.append(spec)
        return specs, errors

    def served_on_demand(
        self, settings: Settings, specs: Sequence[ModelSpec], *, are_checked: bool = False
    ) -> list[ModelSpec]:
        """The specs that the first request loads, besides those that are loaded at start.

        Models that only `*` stands for are left out if they cannot be served, and the log says why;
        so are all others if a supervisor has checked them before (`are_checked`).

        Raises:
            ConfigurationError: as in `resolve_all`, about models that are named.
        """
        named = [n for n in dict.fromkeys(settings.models_on_demand) if n != EVERY_MODEL]
        others = self.names() if EVERY_MODEL in settings.models_on_demand else []
        found = []
        if are_checked:
            others = [*named, *others]
        else:
            started = {spec.name for spec in specs}
            found = [spec for spec in self.resolve_all(named) if spec.name not in started]
        return found + self._servable(others, (*specs, *found))

    def _servable(self, names: Sequence[str], before: Sequence[ModelSpec]) -> list[ModelSpec]:
        owners: dict[str, str] = {}
        for spec in before:
            _claim_names(spec, owners)
        own = {name for spec in before for name in (spec.name, spec.argument)}
        found = []
        for name, adapters in self._grouped(names):
            if name in own:
                continue
            try:
                spec = _with_those_there(self._resolve(name), adapters)
                if spec.name in own:
                    continue
                _claim_names(spec, owners)
            except ConfigurationError as error:
                logger.warning("{} is left out of models_on_demand: {}", name, error.message)
                continue
            own |= {name, spec.name}
            found.append(spec)
        return found

    def _grouped(self, arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
        """The arguments of models, each with the adapters that are to be loaded with it. A model
        that is named twice is there twice."""
        models: list[tuple[str, list[str]]] = []
        named: set[str] = set()
        for base, adapter in map(self.divided, arguments):
            known = next((adapters for argument, adapters in models if argument == base), None)
            if known is None or (adapter is None and base in named):
                known = []
                models.append((base, known))
            if adapter is None:
                named.add(base)
            else:
                known.append(adapter)
        return models

    def _read(self, folder: Path) -> ModelSpec:
        return read_manifest(folder, trust_remote_code=self._defaults.trust_remote_code)

    def _hint(self, argument: str) -> str:
        near = difflib.get_close_matches(argument, self.names(), n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        return "`llmserve models` lists the models, `llmserve pull ORG/NAME` downloads one"


def _claim_names(spec: ModelSpec, owners: dict[str, str]) -> None:
    """Record the spec, and its adapters, as the owners of their names.

    Raises:
        ConfigurationError: one belongs to another.
    """
    claims = [(name, spec.name) for name in spec.names]
    for adapter in spec.adapters:
        names = adapter.served_names(spec.names)
        claims += [(name, names[0]) for name in names]
    claimed: dict[str, str] = {}
    for name, owner in claims:
        other = owners.get(name) or claimed.get(name)
        if other is not None:
            raise ConfigurationError(
                f"the name {name!r} belongs to both {other!r} and {owner!r}; "
                "change an alias or serve one of them"
            )
        claimed[name] = owner
    owners.update(claimed)


def _with_initial(spec: ModelSpec, adapter: str) -> ModelSpec:
    """The spec, with this adapter to be loaded with it.

    Raises:
        ConfigurationError: it has none of that name.
    """
    names = [one.name for one in spec.adapters]
    if adapter not in names:
        near = difflib.get_close_matches(adapter, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"
        raise ConfigurationError(f"model {spec.name!r} has no adapter {adapter!r}; {hint}")
    marked = [replace(a, is_initial=a.is_initial or a.name == adapter) for a in spec.adapters]
    return replace(spec, adapters=tuple(marked))


def _with_those_there(spec: ModelSpec, adapters: Sequence[str]) -> ModelSpec:
    for adapter in adapters:
        try:
            spec = _with_initial(spec, adapter)
        except ConfigurationError as error:
            logger.error("{}", error.message)
    return spec


def _is_model(folder: Path) -> bool:
    try:
        is_described = any((folder / name).is_file() for name in ("config.json", MANIFEST, MODULES))
        return is_described or any(folder.glob(f"*{GGUF_SUFFIX}"))
    except OSError:  # a folder that this user may not read, or an impossible file name
        return False
