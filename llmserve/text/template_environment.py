"""The Jinja environment of chat templates: transformers', with what callers wrote kept track of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from transformers.utils.chat_template_utils import _compile_jinja_template

from llmserve.text.taint import Tainted, concat, traced, unmarked

BUILDING_FILTERS: Final = (
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "format",
    "indent",
    "join",
    "lower",
    "pprint",
    "safe",
    "striptags",
    "title",
    "tojson",
    "truncate",
    "upper",
    "urlencode",
    "urlize",
    "wordwrap",
    "xmlattr",
)
"""Filters that make a new string; those that are not here hand on what they were given."""


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Renders as transformers does, to a string that has a mark on each of a caller's characters.

    Marks survive operators, methods of strings, filters, loops, macros and blocks.
    """

    intercepted_binops = frozenset("%")
    concat = staticmethod(concat)

    def __init__(self) -> None:
        base = _compile_jinja_template("").environment
        super().__init__(
            trim_blocks=base.trim_blocks,
            lstrip_blocks=base.lstrip_blocks,
            extensions=[type(extension) for extension in base.extensions.values()],
            finalize=_string,
        )
        self.globals.update(base.globals)
        self.filters.update(base.filters)
        self.filters.update((name, _tracing(self.filters[name])) for name in BUILDING_FILTERS)
        self.filters.update(string=_string, trim=_trim, replace=_replace)

    def compiled(self, source: str) -> jinja2.Template:
        """A template.

        Raises:
            jinja2.TemplateSyntaxError: it does not parse.
        """
        return self.from_string(_ConcatAsAdd().visit(self.parse(source)))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls; a string's method may make a new string."""
        call = partial(super().call, context, function)
        # A sandboxed `format` is a function around the method.
        method = getattr(function, "__wrapped__", function)
        owner = getattr(method, "__self__", None)
        if not isinstance(owner, str):
            return call(*args, **kwargs)
        if isinstance(owner, Tainted):
            made = call(*args, **kwargs)
            return Tainted(made) if type(made) is str else made
        if method.__name__ in ("join", "replace"):
            return getattr(unmarked(owner), method.__name__)(*args, **kwargs)
        if method.__name__ in ("format", "format_map"):
            return traced(call, *args, **kwargs)
        return call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`%`, which formats strings."""
        return traced(partial(super().call_binop, context, operator), left, right)


class _ConcatAsAdd(NodeTransformer):
    """`a ~ b` as `a|string + b|string`: Jinja joins the former out of our reach."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802 - Jinja's name for it
        strings = [
            nodes.Filter(self.visit(part), "string", [], [], None, None, lineno=node.lineno)
            for part in node.nodes
        ]
        total: nodes.Expr = strings[0]
        for string in strings[1:]:
            total = nodes.Add(total, string, lineno=node.lineno)
        return total


def _string(value: Any) -> str:
    """`str`, of a conversation's messages as well."""
    return value if isinstance(value, str) else str(traced(str, value))


def _trim(value: Any, chars: str | None = None) -> str:
    return unmarked(_string(value)).strip(chars)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    times = -1 if count is None else count
    return unmarked(_string(value)).replace(_string(old), _string(new), times)


def _tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def traced_filter(*args: Any, **kwargs: Any) -> Any:
        return traced(function, *args, **kwargs)

    return traced_filter
