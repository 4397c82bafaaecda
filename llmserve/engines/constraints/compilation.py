"""From a constraint to a grammar that answers can be followed through. Everything here blocks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.constraints.grammar_text import GrammarRefused, to_lark, unforced
from llmserve.engines.constraints.pattern import PatternRefused, portable
from llmserve.engines.constraints.refusals import SchemaRefused
from llmserve.engines.constraints.rule import GrammarRule
from llmserve.engines.constraints.satisfiable import impossible
from llmserve.engines.constraints.schema import Schema
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.errors import InvalidRequest

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_CHARS: Final = 2**18
MAX_CHOICES: Final = 5000
MAX_SECONDS: Final = 2.0
"""For the parts of a schema one by one; a single one takes no longer."""
CULPRIT_SECONDS: Final = 0.5
"""For the search of what is at fault in a schema that was refused as a whole."""
LIMITS: Final = LLParserLimits(
    initial_lexer_fuel=250_000,
    max_grammar_size=100_000,
    max_lexer_states=100_000,
    verbose_errors=False,
)
"""A lexer's states take 400 bytes each, and stay as long as its grammar."""
JSON_OPTIONS: Final[JsonCompileOptions] = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    # Without \u every text is written in one way, so that no name comes back in disguise.
    "json_allowed_escapes": 'nrbtf\\"',
}
"""One space after `,` and `:`, or none: white space cannot run away."""
_SLOW: Final = ("pattern", "format", "multipleOf", "patternProperties", "allOf")


@dataclass(slots=True, eq=False)
class Compiled:
    """A constraint for one vocabulary; each answer gets a copy.

    The copies share the states of their lexer, which become more with every answer and are bounded.
    Once a copy has failed, all may: it `is_spent`, and the constraint is to be compiled again.
    """

    matcher: LLMatcher
    vocab: int
    num_words: int
    is_spent: bool = False

    def new_rule(self) -> GrammarRule:
        """A rule at its beginning; takes microseconds."""
        return GrammarRule(self.matcher.deep_copy(), self.vocab, self.num_words, self._spend)

    def _spend(self) -> None:
        """Called by the thread that samples."""
        self.is_spent = True


def compile_constraint(constraint: Constraint, vocabulary: Vocabulary) -> Compiled:
    """
    Raises:
        InvalidRequest: it cannot be served; says where and why.
    """
    try:
        return _compile(constraint, vocabulary)
    except (SchemaRefused, GrammarRefused, PatternRefused, _Refused) as refused:
        raise InvalidRequest(str(refused), param=constraint.param) from None
    except RecursionError:
        raise InvalidRequest(
            "#: it is nested too deep; send a flatter one", param=constraint.param
        ) from None


class _Refused(ValueError):
    """The constraint cannot be served; says why."""


def _compile(constraint: Constraint, vocabulary: Vocabulary) -> Compiled:
    if len(constraint.source) > MAX_CHARS:
        raise _Refused(
            f"#: it has {len(constraint.source):,} characters and may have {MAX_CHARS:,}; "
            "shorten it"
        )
    tokenizer = vocabulary.get()
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return _of_schema(Schema(_parsed(constraint.source)), vocabulary, tokenizer)
        case ConstraintKind.JSON_OBJECT:
            return _of_schema(Schema({"type": "object"}), vocabulary, tokenizer)
        case ConstraintKind.REGEX:
            grammar = LLMatcher.grammar_from_regex(portable(constraint.source))
        case ConstraintKind.CHOICE:
            grammar = LLMatcher.grammar_from_lark(_choice(constraint.source))
        case ConstraintKind.GRAMMAR:
            grammar = LLMatcher.grammar_from_lark(to_lark(constraint.source, _within_lark))
    return _checked(grammar, vocabulary, tokenizer)


def _of_schema(schema: Schema, vocabulary: Vocabulary, tokenizer: LLTokenizer) -> Compiled:
    _check_parts(schema, tokenizer)
    try:
        return _checked(_grammar(schema.text()), vocabulary, tokenizer)
    except _Refused as refused:
        pointer = _culprit(schema, str(refused), tokenizer)
        raise _Refused(f"{pointer}: {refused}") from None


def _grammar(schema: str) -> str:
    grammar: str = LLMatcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)
    return grammar


def _checked(grammar: str, vocabulary: Vocabulary, tokenizer: LLTokenizer) -> Compiled:
    """The grammar, if a first token can follow from it."""
    matcher = LLMatcher(tokenizer, unforced(grammar), log_level=0, limits=LIMITS)
    mask = b"" if matcher.is_error() else matcher.compute_bitmask()
    if matcher.is_error():
        # What it says of the grammar as it came is about what the client wrote.
        plain = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
        raise _Refused(_told(plain.get_error() or matcher.get_error()))
    if not np.frombuffer(mask, np.uint8).any():
        raise _Refused("it allows no text at all; change it so that something fits")
    return Compiled(matcher, vocabulary.vocab, -(-tokenizer.vocab_size // 32))


def _told(error: str) -> str:
    """llguidance's words in one line, and what helps."""
    line = " ".join(error.split("<state>")[0].split()).replace("<non-verbose/>", "").strip()
    if "NoExtensionBias" in line:  # its word for rules that lead back to themselves
        return "it allows no text that ends; break the ring of its rules"
    return f"{line[:300] or 'it is too large'}; change it"


def _check_parts(schema: Schema, tokenizer: LLTokenizer) -> None:
    """What may take long, one by one, as nothing interrupts the whole.

    Raises:
        _Refused: they take too long together; names the last.
    """
    impossible_at = impossible(schema)
    if impossible_at is not None:
        raise _Refused(
            f"{impossible_at}: no finite text fits, as it contains itself; break the ring"
        )
    begun = time.monotonic()
    for pointer, part in schema.parts:
        if any(keyword in part for keyword in _SLOW):
            LLMatcher(tokenizer, _grammar(schema.text(part)), log_level=0, limits=LIMITS)
            if time.monotonic() - begun > MAX_SECONDS:
                raise _Refused(f"{pointer}: it takes too long to compile; simplify its patterns")


def _culprit(schema: Schema, why: str, tokenizer: LLTokenizer) -> str:
    """The pointer of the innermost part that fails alone, and in the same way."""
    begun = time.monotonic()
    for pointer, part in schema.parts:
        matcher = LLMatcher(tokenizer, _grammar(schema.text(part)), log_level=0, limits=LIMITS)
        if matcher.is_error() and _told(matcher.get_error()) == why:
            is_pattern = "pattern" in part and ("regex" in why or "look" in why)
            return f"{pointer}/pattern" if is_pattern else pointer
        if time.monotonic() - begun > CULPRIT_SECONDS:
            break
    return "#"


def _within_lark(schema: Any) -> str:
    read = Schema(schema)
    impossible_at = impossible(read)
    if impossible_at is not None:
        raise _Refused(
            f"{impossible_at}: no finite text fits, as it contains itself; break the ring"
        )
    return json.dumps({"x-guidance": JSON_OPTIONS, **json.loads(read.text())})


def _parsed(source: str) -> Any:
    try:
        document = json.loads(source, parse_constant=_no_number)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise _Refused("#: half of a surrogate pair is no character; send the whole pair") from None
    except ValueError as error:
        raise _Refused(f"#: the schema is not JSON: {error}") from None
    return document


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _choice(source: str) -> str:
    """One terminal with all choices."""
    choices = _parsed(source)
    is_right = isinstance(choices, list) and all(isinstance(each, str) for each in choices)
    if not is_right or not any(choices):
        raise _Refused("#: a choice is a list of texts, at least one of them not empty")
    if len(choices) > MAX_CHOICES:
        raise _Refused(f"#: more than {MAX_CHOICES:,} choices; use a regular expression")
    written = " | ".join(json.dumps(each, ensure_ascii=False) for each in choices if each)
    return f"start: CHOICE{'' if all(choices) else '?'}\nCHOICE: {written}\n"
