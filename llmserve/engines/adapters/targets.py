"""Which modules an adapter's config means, by PEFT's rules. Knows names alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmserve.engines.adapters.unservable import Unservable

if TYPE_CHECKING:
    import regex

ALL_LINEAR: Final = "all-linear"
MATCH_SECONDS: Final = 1.0
"""For an expression to match a name: an adapter may come from strangers."""

Names = str | tuple[str, ...]
"""An expression for whole names, or what they end with."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The modules that a config targets.

    Attributes:
        modules: `all-linear`, an expression or endings.
        excluded: not these, in any case.
        layers: only those within layers of these numbers, `None` for all.
        layers_patterns: names of what holds the layers; any, if empty.
    """

    modules: Names
    excluded: Names = ()
    layers: tuple[int, ...] | None = None
    layers_patterns: tuple[str, ...] = ()

    @property
    def are_all_linear(self) -> bool:
        """Whether it depends on the model's code which modules these are."""
        return isinstance(self.modules, str) and self.modules.lower() == ALL_LINEAR

    def contain(self, module: str) -> bool:
        """Whether a module is one of them.

        Raises:
            Unservable: an expression is none, or takes too long.
        """
        if self.excluded and _is_among(module, self.excluded):
            return False
        if self.are_all_linear:
            return True
        if not _is_among(module, self.modules):
            return False
        if isinstance(self.modules, str) or self.layers is None or module in self.modules:
            return True
        return self._layer_of(module) in self.layers

    def _layer_of(self, module: str) -> int | None:
        for pattern in self.layers_patterns or (r"[^.]*",):
            found = _match(rf"(?:^|.*?\.){pattern}\.(?P<index>\d+)\.", module)
            if found is not None:
                return int(found["index"])
        return None


def pattern_for(module: str, patterns: Sequence[str]) -> str | None:
    """The first of a config's patterns that a module's name ends with.

    Raises:
        Unservable: as `Targets.contain`.
    """
    return next((each for each in patterns if _match(rf"(.*\.)?({each})$", module)), None)


def _is_among(module: str, names: Names) -> bool:
    if isinstance(names, str):
        return _match(names, module, is_whole=True) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _match(pattern: str, name: str, *, is_whole: bool = False) -> regex.Match[str] | None:
    import regex  # a supervisor, which lists adapters, does without

    try:
        compiled: Any = regex.compile(pattern)
        match = compiled.fullmatch if is_whole else compiled.match
        found: regex.Match[str] | None = match(name, timeout=MATCH_SECONDS)
    except regex.error as error:
        raise Unservable(f"its expression {pattern!r} cannot be read: {error}") from None
    except TimeoutError:
        raise Unservable(f"its expression {pattern!r} takes too long to match") from None
    return found
