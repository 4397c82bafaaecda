"""What is found out about a template's tools before anyone sends any."""

from __future__ import annotations

import pytest
from chat_families import FAMILIES, family
from tool_families import TOOL_FAMILIES, tool_family

from llmserve.text.chat_template import ChatTemplate
from llmserve.text.content_format import ContentFormat
from llmserve.text.turn_forms import CallForm, NoContent, TurnForms

CALL_FORMS = {
    "hermes": CallForm(),
    "thinking": CallForm(),
    "llama-3.1": CallForm(),
    "mistral-tools": CallForm(has_short_ids=True),
    "channels": CallForm(),
    "deepseek": CallForm(takes_text=True, no_content=NoContent.NULL, splits=True),
    "xml": CallForm(wraps_text=True),
}
CALLS = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
WORDS = "{% for m in messages %}{{ m.content }}{% endfor %}"
PARTS = "{% for p in m.content %}{{ p.text }}{% endfor %}"
TOOLS = "{{ tools | tojson if tools }}"


def found(template: str) -> TurnForms:
    return ChatTemplate(family("byte-level", "chatml"), template).forms


def of_each(body: str) -> str:
    return TOOLS + f"{{% for m in messages %}}{body}{{% endfor %}}"


@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_families_get_their_calls_in_the_form_that_they_want(name: str) -> None:
    template = ChatTemplate(tool_family(name))
    forms = template.forms
    assert template.problems == ()
    assert template.shows_tools
    assert forms.takes_results
    assert forms.calls == CALL_FORMS[name]
    assert forms.knows_developer == (name == "channels")
    assert forms.takes_system == (name != "mistral-tools")
    assert forms.reasoning_key == ("thinking" if name == "channels" else "reasoning_content")


@pytest.mark.parametrize("name", FAMILIES)
def test_families_without_tools_get_the_generic_form(name: str) -> None:
    forms = ChatTemplate(family("byte-level", name)).forms
    assert (forms.shows_tools, forms.calls, forms.takes_results) == (False, None, False)
    assert forms.takes_system == (name != "gemma")


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ("{{ m.content }}" + CALLS + "{% endfor %}", CallForm()),
        ("{{ m.content.strip() }}" + CALLS + "{% endfor %}", CallForm(no_content=NoContent.EMPTY)),
        (
            "{% if m.content is none %}" + CALLS + "{% endfor %}{% endif %}{{ m.content or '' }}",
            CallForm(no_content=NoContent.NULL, splits=True),
        ),
        ("{{ m.content }}" + CALLS.replace(" | tojson", "") + "{% endfor %}",
         CallForm(takes_text=True)),
        ("{{ m.content }}" + CALLS.replace(" | tojson", " + ''") + "{% endfor %}",
         CallForm(takes_text=True)),
        ("{{ m.content }}{{ m.tool_calls }}", CallForm(takes_text=True)),
        ("{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}", CallForm()),
        ("{{ m.content }}", None),
        ("{{ m.content }}{% if m.tool_calls %}{{ raise_exception('no') }}{% endif %}", None),
    ],
)  # fmt: skip
def test_calls_are_given_so_that_they_are_shown_as_json(body: str, form: CallForm | None) -> None:
    assert found(of_each(body)).calls == form


def test_calls_may_be_shown_though_results_are_refused() -> None:
    refuses = "{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    forms = found(of_each(refuses + "{{ m.content }}" + CALLS + "{% endfor %}"))
    assert (forms.calls, forms.takes_results) == (CallForm(), False)


def test_results_may_have_a_format_of_their_own() -> None:
    after_calls = (
        "{% if m.role == 'tool' %}{% if messages|length == 3 and not messages[1].tool_calls %}"
        "{{ raise_exception('no call') }}{% endif %}"
        + PARTS
        + "{% else %}{{ m.content }}{% endif %}"
    )
    forms = found(of_each(after_calls + CALLS + "{% endfor %}"))
    assert forms.takes_results
    assert forms.formats["tool"] is ContentFormat.OPENAI


@pytest.mark.parametrize(
    "source",
    [
        WORDS,
        "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + WORDS,
        WORDS + "{{ tools if messages[0].role == 'system' }}",
        "{{ raise_exception('never') }}",
        "{% for %}",
    ],
)
def test_what_is_not_shown_to_every_conversation_is_not_shown(source: str) -> None:
    assert not found(source).shows_tools


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize("when", ["true", "loop.last", "m.tool_calls", "not loop.last"])
def test_the_reasoning_is_given_under_the_name_that_is_read(key: str, when: str) -> None:
    body = f"{{{{ m.{key} if {when} }}}}{{{{ m.content }}}}" + CALLS + "{% endfor %}"
    assert found(of_each(body)).reasoning_key == key


def test_a_role_that_is_merely_written_is_not_known() -> None:
    assert not found(of_each("[{{ m.role }}]{{ m.content }}")).knows_developer
    assert not found(of_each("{{ m.content if m.role != 'developer' }}")).knows_developer
    assert found(of_each("{{ '#' if m.role == 'developer' }}{{ m.content }}")).knows_developer
    only = "{% if m.role not in ('user', 'assistant', 'developer') %}{{ raise_exception('?') }}"
    assert found(of_each(only + "{% endif %}{{ m.content }}")).knows_developer


def test_of_named_templates_the_one_for_tools_is_used_for_tools() -> None:
    hf = family("byte-level", "chatml").__class__(
        tokenizer_object=family("byte-level", "chatml").backend_tokenizer
    )
    hf.chat_template = {"default": WORDS, "tool_use": TOOLS + WORDS}
    assert ChatTemplate(hf).shows_tools
    hf.chat_template = {"default": WORDS, "tool_use": "{% for %}"}
    assert not ChatTemplate(hf).shows_tools
    hf.chat_template = {"default": WORDS, "tool_use": TOOLS + WORDS}
    assert not ChatTemplate(hf, WORDS).shows_tools, "the operator's own replaces them all"
