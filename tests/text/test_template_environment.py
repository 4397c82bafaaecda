"""Templates come out as transformers renders them, with marks on what callers wrote."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from llmserve.text.taint import MARK, Tainted, concat, marks_of, plain
from llmserve.text.template_environment import BUILDING_FILTERS, TemplateEnvironment

CALLERS = "AB \n{}%"
EXACT = [
    "<{{ x }}>",
    "<{{ x ~ '-' ~ x ~ 1 }}>",
    "{{ 'a' + x + 'b' }}",
    "{{ ('_a' + x + 'b_') | trim('_') }}",
    "{{ x.strip() + 'a' }}",
    "{{ 'a%s.' % x }}{{ '%s-%s' % (x, x) }}{{ '%(k)s.' % {'k': x} }}",
    "{{ 'a{}-{k}.'.format(x, k=x) }}{{ 'a{k}'.format_map({'k': x}) }}{{ '<%s>' | format(x) }}",
    "{{ ','.join([x, 'a', x]) }}{{ [x, 'b'] | join('-') }}",
    "{{ messages | map(attribute='content') | join('-') }}",
    "{{ 'a-b'.replace('-', x) }}{{ x.replace('A', 'b') }}{{ x | replace('B', 'a') }}",
    "{% for c in x %}{{ c }}-{% endfor %}{{ x[::-1] }}{{ x | reverse }}",
    "{% set y %}<{{ x }}>{% endset %}{{ y }}{{ y | length }}",
    "{% macro m(c) %}<{{ c }}{{ caller() }}>{% endmacro %}{% call m(x) %}a{{ x }}{% endcall %}",
    "{% filter trim('_') %}_{{ x }}a_{% endfilter %}",
    "{% set ns = namespace(t='') %}{% for c in x %}{% set ns.t = ns.t + c %}{% endfor %}{{ ns.t }}",
    "{% generation %}a{{ x }}{% endgeneration %}",
    "{{ x.split('A')[-1] }}{{ x.splitlines() | join('-') }}{{ x.partition('B')[2] }}",
    "{{ (x, 'a') | first }}{{ ['a', x] | last }}{{ {'k': x}.get('k') }}{{ {}.get(x, 'a') }}",
    "{{ y | default('a') }}{{ x | default('a') }}{{ x | safe }}{{ x | string }}",
    "{{ 'a-b' | replace('-', x) }}{{ ('a-' ~ x) | replace('-', 'b', 1) | replace('A', '.') }}",
    "{{ messages[0].values() | join('-') }}{{ {'a': x}.values() | join }}",
    "{{ {x: 1}.keys() | join('-') }}{{ dict(a=x).values() | join('-') }}",
    "{{ {'a': x}.items() | map('join', '-') | join }}{{ {'a': x} | items | map('last') | join }}",
    "{% for k, v in {'a': x}.items() %}{{ k ~ v }}{% endfor %}{{ {'a': 'b'}.get(x, 'a') }}",
    "{% macro m(c) %}ab{% endmacro %}{{ m(x) }}{{ cycler('a', x).next() }}{{ joiner('-')() }}",
    "{% for c in [1, 2] %}{{ loop.cycle('a', x) }}{% endfor %}{{ ['a', x].index('a') }}",
    "{% set ns = namespace(a=x) %}{{ ns.a ~ 'b' }}{{ 'a'.strip(x) }}{{ 'a' | default(ns) }}",
    "{% for c in [['a']] recursive %}{{ 'a' if c == 'a' else loop(c) }}{% endfor %}",
    "{{ x * 2 }}{{ x if x is string else 'a' }}{{ 'a' if 'A' in x else 'b' }}",
]
"""With a caller's text `x` of `CALLERS`; what a template writes itself is none of them."""

WHOLE = [
    "{{ x | tojson }}",
    "{{ messages }}{{ messages | trim }}{{ 'a' ~ messages }}{{ messages | replace('a', 'b') }}",
    "{{ x | upper }}{{ x.upper() }}",
    "{{ x | title }}{{ x.center(9) }}",
    "{{ x | indent(3) }}{{ x | truncate(3) }}{{ x | wordwrap(3) }}{{ x | urlencode }}",
    "{{ x | pprint }}{{ [x] }}{{ [x] | string }}{{ x.zfill(9) }}",
    "{{ messages[0].values() }}{{ messages[0].items() }}{{ {x: 1}.keys() }}{{ [{x: 1}.keys()] }}",
    "{{ 'a%s' % {x: 1}.keys() }}{{ 'a{}'.format({x: 1}.items()) }}{{ {'a': x}.values() | pprint }}",
    "{{ x.encode() }}{{ x.encode().decode() }}{{ x.encode().upper().decode() }}",
    "{{ [x.encode()] }}{{ 'a%s' % x.encode() }}{{ 'a{}'.format(x.encode()) }}",
    "{{ namespace(a=x) }}{{ [namespace(a=[x])] }}{{ 'a' ~ namespace(a=x) }}",
    "{{ '%s' % namespace(a=x) }}{{ 'a{}{0.a}'.replace('{}', '').format(namespace(a=x)) }}",
    "{{ strftime_now('a' ~ x) }}{{ strftime_now(format=x) }}",
    "{{ 'a'.ljust(9, (x ~ 'B')[0]) }}{{ 'a'.center(9, (x ~ 'B')[0]) }}{{ 'a'.translate({97: x}) }}",
    "{{ x | escape }}{{ x | capitalize }}{{ x | list }}{{ x | striptags }}",
]
"""What comes out is marked where it is not punctuation of ours."""


def render(source: str, text: str) -> str:
    words = Tainted(text)
    messages = [{"role": "user", "content": words}]
    return TemplateEnvironment().compiled(source).render(x=words, messages=messages)


def reference(source: str, text: str) -> str:
    messages = [{"role": "user", "content": text}]
    [rendered], _ = render_jinja_template([messages], chat_template=source, x=text)
    return str(rendered)


@pytest.mark.parametrize("source", EXACT)
@settings(deadline=None, max_examples=25)
@given(text=st.text(alphabet=CALLERS, max_size=8))
def test_exactly_the_callers_characters_have_marks(source: str, text: str) -> None:
    rendered = render(source, text)
    assert rendered == reference(source, text)
    marks = [mark == MARK[0] for mark in marks_of(rendered)]
    assert marks == [letter in CALLERS for letter in plain(rendered)]


@pytest.mark.parametrize("source", WHOLE)
@settings(deadline=None, max_examples=25)
@given(text=st.text(alphabet=CALLERS, max_size=8))
def test_what_was_changed_on_the_way_is_the_callers(source: str, text: str) -> None:
    rendered = render(source, text)
    assert rendered == reference(source, text)
    unmarked = {
        letter
        for letter, mark in zip(plain(rendered), marks_of(rendered), strict=True)
        if mark != MARK[0]
    }
    assert not unmarked & set("AB\n")


@pytest.mark.parametrize(
    "source", ["{{ x.__class__ }}", "{{ x._marks }}", "{{ ''.format.__globals__ }}", "{{ x.f() }}"]
)
def test_the_sandbox_is_as_tight_as_ever(source: str) -> None:
    with pytest.raises((jinja2.exceptions.SecurityError, jinja2.UndefinedError)):
        render(source + "{{ (x._marks).a }}", "A")


def test_the_format_of_a_caller_opens_nothing() -> None:
    source, text = "{{ x.format(x) }}", "<{0.__class__}{0._marks}>"
    assert render(source, text) == reference(source, text) == "<>"


def test_what_raises_in_a_template_raises_here() -> None:
    with pytest.raises(jinja2.TemplateError, match="not that"):
        render("{{ raise_exception('not ' + x) }}", "that")
    with pytest.raises(jinja2.TemplateSyntaxError):
        render("{% if %}", "A")


def test_a_value_that_is_no_string_is_written_as_transformers_writes_it() -> None:
    def both(source: str, value: Any) -> tuple[str, str]:
        ours = TemplateEnvironment().compiled(source).render(v=value)
        [theirs], _ = render_jinja_template([[]], chat_template=source, v=value)
        return plain(ours), theirs

    for value in (None, 1.5, {"k": [Tainted("x"), None]}, [Tainted("é<")], Tainted("")):
        for source in ("{{ v }}{{ 'a' ~ v }}", "{{ v | tojson }}{{ v | tojson(indent=1) }}"):
            ours, theirs = both(source, value)
            assert ours == theirs


def test_of_every_filter_it_is_known_whether_it_makes_strings() -> None:
    hand_on = (  # noqa: SIM905 - 31 lines otherwise
        "abs attr batch count d default dictsort filesizeformat first float groupby int items last "
        "length list map max min random reject rejectattr reverse round select selectattr slice "
        "sort sum unique wordcount"
    ).split(" ")
    exact = ["replace", "string", "tojson", "trim"]
    assert sorted(TemplateEnvironment().filters) == sorted([*BUILDING_FILTERS, *hand_on, *exact])


@pytest.mark.parametrize(
    "text", ["a", 'a"b', "\\", "\n\t", "é\u2028", "\ud800", "", "\ue0000\ue001"]
)
@pytest.mark.parametrize(
    "source",
    [
        "{{ [x] | tojson }}",
        "{{ {'k': {x: [x, 1, none]}} | tojson(indent=2) }}",
        "{{ ('T' ~ x ~ 'U') | tojson(separators=(',', ':')) }}",
    ],
)
def test_exactly_the_callers_characters_and_their_escapes_have_marks_in_json(
    source: str, text: str
) -> None:
    rendered = render(source, text)
    assert rendered == reference(source, text)
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    ours = reference(source, "@").split("@")
    pieces = [Tainted(inner)] * (2 * len(ours) - 1)
    assert marks_of(rendered) == marks_of(concat(
        ours[i // 2] if i % 2 == 0 else piece for i, piece in enumerate(pieces)
    ))  # fmt: skip


@pytest.mark.parametrize("options", ["ensure_ascii=True", "sort_keys=True"])
def test_in_other_json_at_least_the_callers_characters_have_marks(options: str) -> None:
    source = "{{ {'z': x, x: 'y'} | tojson(" + options + ") }}"
    rendered = render(source, "é")
    assert rendered == reference(source, "é")
    assert all(mark for c, mark in zip(rendered, marks_of(rendered), strict=True) if c in "é\\u9")
