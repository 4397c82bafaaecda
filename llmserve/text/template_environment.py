"""The Jinja environment of chat templates: transformers' own, plus taint tracking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.runtime import BlockReference, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler
from jinja2.visitor import NodeTransformer
from transformers.utils.chat_template_utils import _compile_jinja_template

from llmserve.text.taint import (
    CONTAINERS,
    Tainted,
    concat,
    is_tainted,
    marks_of,
    plain,
    traced,
    traced_as,
    unmarked,
)

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
    "truncate",
    "upper",
    "urlencode",
    "urlize",
    "wordwrap",
    "xmlattr",
)
"""Filters that build a new string; all others pass on what they were given."""

BUILDING_METHODS: Final = ("center", "format", "format_map", "ljust", "rjust", "translate")
"""Besides `join` and `replace`, the string methods whose result has characters of an argument."""
TEMPLATES_OWN: Final = (Macro, BlockReference, LoopContext)
"""Their results are put together by `concat`, which keeps marks."""
PASSING_ON: Final = (Mapping, *CONTAINERS, LoopContext, Cycler)
"""Their methods build no strings: they return what they contain."""


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Renders as transformers does, to a string in which each of a caller's characters is marked.

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
        self.filters["tojson"] = partial(traced_as, _inside_json, base.filters["tojson"])

    def compiled(self, source: str) -> jinja2.Template:
        """Compile a template.

        Raises:
            jinja2.TemplateSyntaxError: it does not parse.
        """
        return self.from_string(_ConcatAsAdd().visit(self.parse(source)))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function for a template; a string that it builds is marked."""
        call = partial(super().call, context, function)
        # A sandboxed `format` is a function around the method.
        method = getattr(function, "__wrapped__", function)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str) and not isinstance(owner, Tainted):
            if method.__name__ in ("join", "replace"):
                return getattr(unmarked(owner), method.__name__)(*args, **kwargs)
            is_building = method.__name__ in BUILDING_METHODS
            return traced(call, *args, **kwargs) if is_building else call(*args, **kwargs)
        made = call(*args, **kwargs)
        if not isinstance(made, str) or isinstance(made, Tainted):
            return made
        if isinstance(owner, Tainted | bytes | bytearray):
            return Tainted(made)
        if isinstance(function, TEMPLATES_OWN) or isinstance(owner, PASSING_ON):
            return made
        return Tainted(made) if is_tainted((args, kwargs)) else made

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`%`, which formats strings."""
        return traced(partial(super().call_binop, context, operator), left, right)


class _ConcatAsAdd(NodeTransformer):
    """Rewrites `a ~ b` as `a|string + b|string`: Jinja's own `~` cannot be intercepted."""

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
    """`str` that keeps marks, also those inside a conversation's messages."""
    return value if isinstance(value, str) else str(traced(str, value))


def _trim(value: Any, chars: str | None = None) -> str:
    return unmarked(_string(value)).strip(chars)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    times = -1 if count is None else count
    return unmarked(_string(value)).replace(_string(old), _string(new), times)


def _inside_json(text: Tainted) -> Tainted:
    """As JSON has it between quotation marks; a character's escape has the character's mark."""
    letters, marks = plain(text), marks_of(text)
    escaped = _escaped(letters)
    if len(escaped) == len(letters):
        return Tainted(escaped, marks)
    if marks == marks[:1] * len(marks):
        return Tainted(escaped, marks[:1] * len(escaped))
    pairs = zip(letters, marks, strict=True)
    return Tainted(escaped, b"".join(bytes((mark,)) * len(_escaped(c)) for c, mark in pairs))


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    wants_context = hasattr(function, "jinja_pass_arg")

    @wraps(function)
    def traced_filter(*args: Any, **kwargs: Any) -> Any:
        if wants_context:
            return traced(partial(function, args[0]), *args[1:], **kwargs)
        return traced(function, *args, **kwargs)

    return traced_filter
