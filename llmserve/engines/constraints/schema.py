"""JSON schemas of requests, checked and rewritten into what llguidance reads without doubt.

Every refusal has the JSON pointer of the keyword. A document becomes a root and numbered
definitions, one for each place that a `$ref` names; annotations are dropped. Where llguidance and
validators differ the rewritten schema allows less, so that whatever it allows validates.

`format` is enforced where llguidance knows it. Elsewhere it is dropped: JSON Schema 2020-12 makes
it an annotation, and a validator without a format checker takes any text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from llmserve.engines.constraints.common_multiple import common_multiple
from llmserve.engines.constraints.disjoint import are_disjoint, conjuncts
from llmserve.engines.constraints.json_pointer import child, resolve
from llmserve.engines.constraints.keywords import (
    FORMATS,
    SHAPES,
    UNSUPPORTED,
    WITHOUT_EFFECT,
    is_number,
    is_schema,
)
from llmserve.engines.constraints.pattern import PatternRefused, portable
from llmserve.engines.constraints.refusals import Malformed, SchemaRefused

MAX_SCHEMAS: Final = 4000
"""Schemas within one document."""
MAX_DEPTH: Final = 40
"""Schemas within schemas; a `$ref` begins anew."""
MAX_VALUES: Final = 5000
"""Values of one enum, and properties of all objects."""
MAX_PROPERTIES: Final = 400
"""Of one object: an optional one may be followed by any later one."""
MAX_LEAST: Final = 10_000
"""Of minLength, minItems and minProperties: more than an answer has."""
MAX_MOST: Final = 2**31 - 1
MAX_EXACT: Final = 2**53
"""Beyond it neighbouring integers are the same number for many readers of JSON."""
MAX_DIVISOR: Final = 1024
"""As a decimal number's digits, of what holds together; the grammar has a state per remainder."""
MAX_PATTERN_PROPERTIES: Final = 16
"""Of one object: no two of them may match the same name, and every pair is compared."""
MAX_TOGETHER: Final = {"pattern": 3, "multipleOf": 2}
"""How often these may hold for one value, through allOf and $ref."""

_OLD_DRAFTS: Final = ("draft-03", "draft-04", "draft-06", "draft-07", "2019-09")
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MOST: Final = ("maxLength", "maxItems", "maxProperties")
_LEAST: Final = ("minLength", "minItems", "minProperties")


class Schema:
    """One document, read once.

    Attributes:
        root: the rewritten document without its definitions.
        definitions: name → rewritten schema.
        parts: pointer and rewritten form of every schema in it, inner ones first.
    """

    def __init__(self, document: Any) -> None:
        """
        Raises:
            SchemaRefused: it is malformed, or says what cannot be enforced.
        """
        self._document = document
        self._draft = _draft(document)
        self._id = document.get("$id") if isinstance(document, dict) else None
        self._names: dict[str, str] = {}  # pointer → name
        self._open: list[tuple[str, Any]] = []
        self._num_schemas = self._num_values = 0
        self.definitions: dict[str, Any] = {}
        self.parts: list[tuple[str, dict[str, Any]]] = []
        root = self._read(document, "#", 0)
        if root is False:
            raise SchemaRefused("#", "the schema is false, which allows nothing")
        self.root: dict[str, Any] = {} if root is True else root
        self._drain()
        self._check_conjunctions()

    def text(self, part: dict[str, Any] | None = None) -> str:
        """The rewritten document, or one of its parts with all definitions, as JSON."""
        root = self.root if part is None else part
        return json.dumps({**root, "$defs": self.definitions} if self.definitions else root)

    def named(self, name: str) -> Any:
        """A definition."""
        return self.definitions[name]

    def _read(self, schema: Any, pointer: str, depth: int) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Malformed(pointer, "a schema is an object, true or false")
        self._num_schemas += 1
        if self._num_schemas > MAX_SCHEMAS:
            raise SchemaRefused(pointer, f"more than {MAX_SCHEMAS:,} schemas; send a smaller one")
        if depth > MAX_DEPTH:
            raise SchemaRefused(pointer, f"schemas are nested more than {MAX_DEPTH} deep")
        self._check(schema, pointer)
        written: dict[str, Any] = {}
        for keyword, value in schema.items():
            self._write(written, keyword, schema, (child(pointer, keyword), value, depth + 1))
        self.parts.append((pointer, written))
        return written

    def _check(self, schema: dict[str, Any], pointer: str) -> None:
        """The shapes of all keywords first: a malformed schema is told as such."""
        for keyword, value in schema.items():
            is_right, shape = SHAPES.get(keyword, (None, ""))
            at = child(pointer, keyword)
            if keyword in ("exclusiveMinimum", "exclusiveMaximum"):
                is_flag = self._draft in ("draft-03", "draft-04")
                right = isinstance(value, bool) if is_flag else is_number(value)
                is_right, shape = (lambda _, right=right: right), "a number"
            elif keyword == "items":
                is_list = isinstance(value, list) and self._draft is not None
                right = is_list or isinstance(value, bool | dict)
                is_right, shape = (
                    (lambda _, right=right: right),
                    ("a schema (a list of them is prefixItems since draft 2020-12)"),
                )
            if is_right is not None and not is_right(value):
                raise Malformed(at, f"{keyword} must be {shape}")
        for keyword in {"if", "then", "else"} & schema.keys():  # none of them is ever read
            _check_unread(schema[keyword], child(pointer, keyword))
        for keyword in schema:
            if keyword in UNSUPPORTED and not _says_nothing(schema, keyword):
                raise SchemaRefused(
                    child(pointer, keyword),
                    f"the keyword {keyword} is not supported; {UNSUPPORTED[keyword]}",
                )
        if pointer != "#" and not str(schema.get("$id", "#")).startswith("#"):
            raise SchemaRefused(
                child(pointer, "$id"), "schemas within schemas are not supported; use $defs"
            )

    def _write(
        self,
        written: dict[str, Any],
        keyword: str,
        schema: dict[str, Any],
        place: tuple[str, Any, int],
    ) -> None:
        """One keyword; annotations and what nobody knows leave nothing."""
        at, value, depth = place
        if keyword in ("properties", "patternProperties"):
            written[keyword] = self._properties(keyword, at, value, depth)
        elif keyword in ("$defs", "definitions"):
            self._check_definitions(at, value, depth)
        elif keyword == "additionalProperties" or (keyword == "items" and is_schema(value)):
            written[keyword] = self._read(value, at, depth)
        elif keyword in ("items", "prefixItems"):
            self._items(written, keyword, schema, place)
        elif keyword in ("allOf", "anyOf", "oneOf"):
            self._alternatives(written, keyword, place)
        elif keyword == "$ref":
            written["$ref"] = f"#/$defs/{self._name(at, value)}"
        elif keyword in ("const", "enum"):
            self._check_values(at, [value] if keyword == "const" else value)
            written[keyword] = value
        elif keyword == "pattern":
            written[keyword] = _portable(at, value)
        elif keyword == "format" and value in FORMATS:
            written[keyword] = value
        elif keyword in _LEAST + _MOST:
            written[keyword] = _count(at, keyword, schema)
        elif keyword in _BOUNDS:
            written[keyword] = _bound(at, keyword, value)
        elif keyword == "multipleOf":
            written[keyword] = _divisor(at, value)
        elif keyword in ("type", "required"):
            written[keyword] = value

    def _properties(self, keyword: str, at: str, value: Any, depth: int) -> dict[str, Any]:
        self._num_values += len(value)
        most = MAX_PROPERTIES if keyword == "properties" else MAX_PATTERN_PROPERTIES
        if len(value) > most or self._num_values > MAX_VALUES:
            raise SchemaRefused(
                at,
                f"more than {most} properties here, or {MAX_VALUES:,} properties and "
                "values in all; split the schema",
            )
        if keyword == "properties":
            return {name: self._read(each, child(at, name), depth) for name, each in value.items()}
        return {
            _portable(child(at, name), name): self._read(each, child(at, name), depth)
            for name, each in value.items()
        }

    def _items(
        self,
        written: dict[str, Any],
        keyword: str,
        schema: dict[str, Any],
        place: tuple[str, Any, int],
    ) -> None:
        """Items one by one: `items` as a list in older drafts, whose rest is `additionalItems`."""
        at, value, depth = place
        if keyword == "prefixItems" and self._draft is not None:
            return  # not known then
        self._num_values += len(value)
        written["prefixItems"] = [
            self._read(each, child(at, index), depth) for index, each in enumerate(value)
        ]
        if keyword == "items" and "additionalItems" in schema:
            rest = child(at.rsplit("/", 1)[0], "additionalItems")
            written["items"] = self._read(schema["additionalItems"], rest, depth)

    def _alternatives(
        self, written: dict[str, Any], keyword: str, place: tuple[str, Any, int]
    ) -> None:
        at, value, depth = place
        options = [self._read(each, child(at, index), depth) for index, each in enumerate(value)]
        if keyword == "allOf":
            written["allOf"] = [*written.get("allOf", ()), *options]
        elif keyword == "anyOf":
            written["anyOf"] = options
        else:
            self._drain()
            if not are_disjoint([each for each in options if each is not False], self.named):
                raise SchemaRefused(
                    at,
                    "it cannot be shown that never two of these hold; use anyOf, or give each a "
                    "required property with a const of its own",
                )
            written["allOf"] = [*written.get("allOf", ()), {"anyOf": options}]

    def _drain(self) -> None:
        """Read what was referred to so far, as a proof may need it."""
        while self._open:
            pointer, found = self._open.pop()
            name = self._names[pointer]
            # A proof within it may meet it again: until it is read nothing is known of it.
            self.definitions[name] = {}
            self.definitions[name] = self._read(found, pointer, 0)

    def _name(self, at: str, reference: str) -> str:
        """The definition that a reference names."""
        local = reference
        if self._id and reference.startswith(str(self._id)):
            local = reference[len(str(self._id)) :] or "#"
        try:
            if local != "#" and not local.startswith("#/"):
                raise LookupError(local)
            pointer, found = resolve(self._document, local)
        except LookupError:
            raise SchemaRefused(
                at,
                f"there is no {reference[:80]!r} in this document; references are pointers into "
                "it, such as #/$defs/name",
            ) from None
        if pointer not in self._names:
            self._names[pointer] = str(len(self._names))
            self._open.append((pointer, found))
        return self._names[pointer]

    def _check_definitions(self, at: str, value: dict[str, Any], depth: int) -> None:
        """Those that nobody refers to must be schemas, too, whether or not they are supported."""
        for name, each in value.items():
            try:
                if isinstance(each, dict):
                    self._check(each, child(at, name))
                elif not isinstance(each, bool):
                    raise Malformed(child(at, name), "a schema is an object, true or false")
            except Malformed:
                raise
            except SchemaRefused:
                continue  # unsupported, and told if it is used

    def _check_values(self, at: str, values: list[Any]) -> None:
        self._num_values += len(values)
        if self._num_values > MAX_VALUES:
            raise SchemaRefused(
                at, f"more than {MAX_VALUES:,} values and properties in all; use a pattern"
            )
        for value in values:
            for each in _leaves(value):
                if isinstance(each, str) and any(not _can_be_written(c) for c in each):
                    raise SchemaRefused(at, "a text has control characters; leave them out")
                if is_number(each) and abs(each) >= MAX_EXACT:
                    raise SchemaRefused(at, f"numbers must be below {MAX_EXACT}; use a text")

    def _check_conjunctions(self) -> None:
        """The automaton of several patterns that hold together has the product of their states."""
        for pointer, part in self.parts:
            if "allOf" not in part and "$ref" not in part:
                continue
            together = conjuncts(part, self.named)
            for keyword, most in MAX_TOGETHER.items():
                if sum(keyword in each for each in together) > most:
                    raise SchemaRefused(
                        pointer, f"{keyword} holds more than {most} times for one value; merge them"
                    )
            divisors = [each["multipleOf"] for each in together if "multipleOf" in each]
            if common_multiple(divisors) > MAX_DIVISOR:
                raise SchemaRefused(
                    pointer, f"multipleOf together may have digits up to {MAX_DIVISOR}; drop one"
                )


def _draft(document: Any) -> str | None:
    """The older draft that a document is written in; `None` for the current one."""
    dialect = document.get("$schema") if isinstance(document, dict) else None
    return next((draft for draft in _OLD_DRAFTS if draft in str(dialect)), None)


def _check_unread(schema: Any, pointer: str) -> None:
    """Of a schema that has no effect: whether it is one at all."""
    try:
        Schema(schema)
    except Malformed as error:
        why = str(error).removeprefix(f"{error.pointer}: ")
        raise Malformed(pointer + error.pointer[1:], why) from None
    except SchemaRefused:
        return  # it could not be served, and need not be


def _says_nothing(schema: dict[str, Any], keyword: str) -> bool:
    """Whether validators skip the keyword here."""
    if keyword == "if":
        return "then" not in schema and "else" not in schema
    if keyword == "uniqueItems" and schema.get("maxItems", 2) <= 1:
        return True
    return any(
        schema[keyword] == value and isinstance(schema[keyword], type(value))
        for value in WITHOUT_EFFECT.get(keyword, ())
    )


def _portable(at: str, pattern: str) -> str:
    try:
        return portable(pattern)
    except PatternRefused as refused:
        raise SchemaRefused(at, f"the pattern cannot be served: {refused}") from None


def _count(at: str, keyword: str, schema: dict[str, Any]) -> int:
    count = int(schema[keyword])
    if keyword in _MOST:
        return min(count, MAX_MOST)
    if count > MAX_LEAST:
        raise SchemaRefused(at, f"{keyword} may be {MAX_LEAST:,} at most; lower it")
    # The grammar does not keep free names apart, and a validator sees a repeated one once.
    is_closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    if keyword == "minProperties" and not is_closed and count > 1 + len(schema.get("required", ())):
        raise SchemaRefused(
            at,
            "minProperties may be one more than the required properties, as other names could be "
            "repeated; name those that are needed in required",
        )
    return count


def _bound(at: str, keyword: str, value: Any) -> Any:
    """A bound beyond exact integers is moved inward, where that leaves something."""
    if isinstance(value, bool) or abs(value) < MAX_EXACT:
        return value
    is_upper = keyword.endswith(("maximum", "Maximum"))
    if (value > 0) != is_upper:
        raise SchemaRefused(at, f"numbers must be within ±{MAX_EXACT}; use a text")
    return MAX_EXACT - 1 if is_upper else 1 - MAX_EXACT


def _divisor(at: str, value: float) -> float:
    """A divisor that is exact in binary: a validator divides, and 0.07 / 0.01 is no integer."""
    if Fraction(str(value)) != Fraction(value):
        raise SchemaRefused(
            at,
            f"multipleOf {value} has no exact binary value, and validators disagree on what it "
            "divides; use an integer of smaller units, or a text with a pattern",
        )
    if common_multiple([value]) > MAX_DIVISOR:
        raise SchemaRefused(at, f"multipleOf may have digits up to {MAX_DIVISOR}; leave it out")
    return value


def _leaves(value: Any) -> Iterator[Any]:
    """All texts and numbers in a value, names included."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _can_be_written(letter: str) -> bool:
    """Whether JSON has it without a `\\u` escape, of which the grammar allows none."""
    return letter in "\b\f\n\r\t" or (letter >= " " and letter != "\x7f")
