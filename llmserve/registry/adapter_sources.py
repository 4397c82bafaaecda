"""Where an adapter is that an operator names while the server runs. The name comes from the
network: it must not make the server read whatever lies on the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from llmserve.domain import AdapterSource, AdapterSpec, ModelSpec
from llmserve.errors import ConfigurationError, InvalidRequest
from llmserve.registry.adapter_table import HUB_ID
from llmserve.registry.catalog import PATH_PREFIXES


class AdapterSources:
    """Turns what an operator writes into specs.

    `resolve` finds a model's spec by its argument; `folders` are those below which paths may lead.
    """

    def __init__(self, resolve: Callable[[str], ModelSpec], folders: Sequence[Path]) -> None:
        self._resolve = resolve
        self._folders = folders

    def spec(self, base: ModelSpec, wanted: AdapterSource) -> AdapterSpec:
        """The adapter that is wanted for a base.

        Raises:
            InvalidRequest: there is none, or its path is not allowed.
        """
        name, source = wanted.name, wanted.source
        if source is None:
            return self._own(base, name)
        if source.startswith(PATH_PREFIXES) or Path(source).is_dir():
            if wanted.revision is not None:
                raise InvalidRequest("`revision` is for adapters from the hub", param="revision")
            return AdapterSpec(name, path=self._allowed(source), aliases=wanted.aliases)
        if re.fullmatch(HUB_ID, source):
            return AdapterSpec(
                name, hub_id=source, revision=wanted.revision, aliases=wanted.aliases
            )
        raise InvalidRequest(
            f"{source[:200]!r} is neither a folder here nor a hub id; write org/name, or the whole "
            "path",
            param="source",
        )

    def _own(self, base: ModelSpec, name: str) -> AdapterSpec:
        try:
            fresh = self._resolve(base.argument or base.name)
        except ConfigurationError as error:
            raise InvalidRequest(error.message, param="model") from error
        found = next((adapter for adapter in fresh.adapters if adapter.name == name), None)
        if found is None:
            names = ", ".join(adapter.name for adapter in fresh.adapters)
            raise InvalidRequest(
                f"model {base.name!r} has no adapter {name[:100]!r}; it has {names or 'none'}",
                param="model",
            )
        return found

    def _allowed(self, source: str) -> Path:
        """The path, if it leads below one of the folders: as it is written, or with all links
        followed. Links in there are the operator's own."""
        try:
            path = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100  # without a `..`
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # links in a ring, nobody's home, NUL
            raise InvalidRequest(f"{source[:200]!r} is no path: {error}", param="source") from None
        for folder in self._folders:
            written, real = folder.absolute(), folder.resolve()
            if path.is_relative_to(written) or resolved.is_relative_to(real):
                return path
        raise InvalidRequest(
            f"{source[:200]!r} is not below models_dir; put the adapter there, or list its folder "
            "in adapter_dirs",
            param="source",
        )
