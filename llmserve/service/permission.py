"""What a caller's key lets it do."""

from __future__ import annotations

from llmserve.domain import Caller, Scope
from llmserve.errors import Forbidden
from llmserve.registry.resolved import Resolved


def check_scope(caller: Caller) -> None:
    """Raises: Forbidden: the key is not for generating."""
    if Scope.GENERATE not in caller.scopes:
        raise Forbidden(
            f"key {caller.name!r} may not generate; it has the scopes "
            f"{', '.join(sorted(caller.scopes))}"
        )


def check_model(found: Resolved, caller: Caller) -> None:
    """Raises: Forbidden: the key is not for this model or adapter."""
    if not caller.may_use(found.permissions):
        allowed = ", ".join(sorted(caller.models or ()))
        raise Forbidden(
            f"key {caller.name!r} is not for model {found.name!r}; it may use {allowed or 'none'}",
            param="model",
        )
