"""Which models could be served: folders under `models_dir`, paths, hub ids."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from loguru import logger

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.weights.purpose import MODULES, purposes_of
from llmserve.errors import ConfigurationError
from llmserve.registry.manifest import HUB_ID, MANIFEST, read_manifest
from llmserve.settings import Settings

PATH_PREFIXES: Final = ("/", "./", "../", "~")
EVERY_MODEL: Final = "*"
"""In `models_on_demand`: all of `models_dir`."""


class Catalog:
    """Turns what an operator writes into specs.

    `device`, `dtype`, `engine` and `trust_remote_code` are the server's defaults, which a manifest
    overrides. `parse_special_tokens` and `require_gpu` apply to all models.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        trust_remote_code: bool = False,
        parse_special_tokens: bool = False,
        require_gpu: bool = False,
    ) -> None:
        self._models_dir = models_dir
        self._device = device
        self._dtype = dtype
        self._engine = EngineKind(engine)
        self._trust_remote_code = trust_remote_code
        self._parse_special_tokens = parse_special_tokens
        self._require_gpu = require_gpu

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The catalog of the models on this machine, with these settings."""
        return cls(
            settings.models_dir,
            device=settings.device,
            dtype=settings.dtype,
            engine=settings.engine,
            trust_remote_code=settings.trust_remote_code,
            parse_special_tokens=settings.parse_special_tokens,
            require_gpu=settings.require_gpu,
        )

    def names(self) -> list[str]:
        """The folders that contain a model, sorted; hidden ones are unfinished downloads."""
        if not self._models_dir.is_dir():
            return []
        folders = self._models_dir.iterdir()
        return sorted(f.name for f in folders if not f.name.startswith(".") and _is_model(f))

    def resolve(self, argument: str) -> ModelSpec:
        """The spec for a name under `models_dir`, a path (starting with / . or ~) or a hub id.

        Raises:
            ConfigurationError: there is no such model, or its manifest is bad.
        """
        if argument.startswith(PATH_PREFIXES):
            folder = Path(argument).expanduser()
            if not _is_model(folder):
                raise ConfigurationError(
                    f"{argument} is not a model: it has neither config.json nor {MANIFEST}"
                )
            return self._finished(self._read(folder), argument)
        if argument in self.names():
            return self._finished(self._read(self._models_dir / argument), argument)
        if "/" in argument and _is_model(Path(argument)):
            raise ConfigurationError(f"{argument!r} is a folder here; write ./{argument}")
        if "/" in argument and re.fullmatch(HUB_ID, argument):
            spec = ModelSpec(
                # The name of the folder that it is downloaded to; the whole id is an alias.
                name=argument.rpartition("/")[2],
                hub_id=argument,
                aliases=(argument,),
                trust_remote_code=self._trust_remote_code,
            )
            return self._finished(spec, argument)
        raise ConfigurationError(f"there is no model {argument!r} in {self._models_dir}; "
                                 + self._hint(argument))  # fmt: skip

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
        """The specs for several models, of which no two may share a name or an alias.

        Raises:
            ConfigurationError: also if two share one.
        """
        specs = [self.resolve(argument) for argument in arguments]
        owners: dict[str, str] = {}
        for spec in specs:
            _claim_names(spec, owners)
        return specs

    def resolve_each(
        self, arguments: Sequence[str]
    ) -> tuple[list[ModelSpec], dict[str, ConfigurationError]]:
        """Like `resolve_all`, but one bad model does not affect the others: its spec has only a
        name, under which its error is returned."""
        specs: list[ModelSpec] = []
        errors: dict[str, ConfigurationError] = {}
        owners: dict[str, str] = {}
        for argument in arguments:
            try:
                spec = self.resolve(argument)
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
        for name in names:
            if name in own:
                continue
            try:
                spec = self.resolve(name)
                if spec.name in own:
                    continue
                _claim_names(spec, owners)
            except ConfigurationError as error:
                logger.warning("{} is left out of models_on_demand: {}", name, error.message)
                continue
            own |= {name, spec.name}
            found.append(spec)
        return found

    def _finished(self, spec: ModelSpec, argument: str) -> ModelSpec:
        return replace(
            spec,
            argument=argument,
            device=self._device if spec.device == "auto" else spec.device,
            dtype=self._dtype if spec.dtype == "auto" else spec.dtype,
            engine=self._engine if self._is_open(spec) else spec.engine,
            parse_special_tokens=self._parse_special_tokens,
            require_gpu=self._require_gpu,
        )

    def _is_open(self, spec: ModelSpec) -> bool:
        """Whether the server's setting decides how a model is served. That is about how tokens are
        made: a model that encodes makes none."""
        return spec.engine is EngineKind.AUTO and not purposes_of(spec)

    def _read(self, folder: Path) -> ModelSpec:
        return read_manifest(folder, trust_remote_code=self._trust_remote_code)

    def _hint(self, argument: str) -> str:
        near = difflib.get_close_matches(argument, self.names(), n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        return "`llmserve models` lists the models, `llmserve pull ORG/NAME` downloads one"


def _claim_names(spec: ModelSpec, owners: dict[str, str]) -> None:
    """Record the spec as the owner of its names.

    Raises:
        ConfigurationError: one belongs to another spec.
    """
    names = (spec.name, *spec.aliases)
    for name in names:
        if name in owners:
            raise ConfigurationError(
                f"the name {name!r} belongs to both {owners[name]!r} and {spec.name!r}; "
                "change an alias or serve one of them"
            )
    owners.update(dict.fromkeys(names, spec.name))


def _is_model(folder: Path) -> bool:
    try:
        return any((folder / name).is_file() for name in ("config.json", MANIFEST, MODULES))
    except OSError:  # a folder that this user may not read, or an impossible file name
        return False
