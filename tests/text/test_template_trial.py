"""What is found out about a template before anyone sends a conversation."""

from __future__ import annotations

import pytest
from chat_families import FAMILIES, family

from llmserve.text.chat_template import ChatTemplate
from llmserve.text.content_format import ContentFormat
from llmserve.text.template_trial import TemplateTrial

STRING, OPENAI = ContentFormat.STRING, ContentFormat.OPENAI
PARTS = "{% for p in m.content %}{{ p.text }}{% endfor %}"


def trial(template: str) -> TemplateTrial:
    return ChatTemplate(family("byte-level", "chatml"), template).trial


def of_each(body: str) -> str:
    return f"{{% for m in messages %}}{body}{{% endfor %}}"


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_served_in_the_format_that_they_want(name: str) -> None:
    found = ChatTemplate(family("byte-level", name)).trial
    wanted = OPENAI if name == "llama-guard" else STRING
    assert (found.formats["user"], found.formats["assistant"]) == (wanted, wanted)
    assert (found.error, found.lost) == (None, ())


@pytest.mark.parametrize(
    "body",
    [
        PARTS,
        "{{ m['content'][0]['text'] | upper }}",
        "{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}",
        "{% if m.content is string %}{{ raise_exception('parts!') }}{% endif %}" + PARTS,
        "{% set c = m.content %}{% for p in c if p.type == 'text' %}{{ p.text }}{% endfor %}",
    ],
)
def test_whatever_loses_strings_and_keeps_parts_is_given_parts(body: str) -> None:
    found = trial(of_each(body))
    assert set(found.formats.values()) == {OPENAI}
    assert (found.error, found.lost) == (None, ())


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}",
        "{% if m.content is string %}{{ m.content }}{% else %}" + PARTS + "{% endif %}",
        "{{ m.content | trim | upper }}",
        "{% for letter in m.content %}{{ letter }}{% endfor %}",
    ],
)
def test_whatever_keeps_strings_is_given_strings(body: str) -> None:
    assert set(trial(of_each(body)).formats.values()) == {STRING}


def test_each_role_has_a_format_of_its_own() -> None:
    found = trial(
        of_each("{% if m.role == 'user' %}" + PARTS + "{% else %}{{ m.content }}{% endif %}")
    )
    assert found.formats == {"user": OPENAI, "system": STRING, "assistant": STRING, "tool": STRING}
    assert (found.error, found.lost) == (None, ())


def test_a_part_that_is_shown_as_python_is_not_said() -> None:
    found = trial(of_each("{% if m.content is not string %}{{ m.content }}{% endif %}"))
    assert "user" in found.lost
    found = trial(of_each("{% if m.content is not string %}{{ m.content | tojson }}{% endif %}"))
    assert "user" in found.lost


def test_the_words_of_some_roles_may_be_lost() -> None:
    found = trial(of_each("{% if m.role == 'user' %}{{ m.content }}{% endif %}"))
    assert (found.lost, found.error) == (("system", "assistant"), None)


def test_a_refusal_is_preferred_to_a_loss() -> None:
    refuses_parts = "{% if m.content is not string %}{{ raise_exception('no parts') }}{% endif %}"
    found = trial(of_each(refuses_parts))
    assert found.formats["user"] is OPENAI, "in the other one words would be lost in silence"
    assert found.lost == ()
    assert str(found.error) == "no parts"


def test_a_template_may_refuse_system_messages_aloud() -> None:
    found = ChatTemplate(family("byte-level", "gemma")).trial
    assert (found.error, found.lost) == (None, ())


def test_one_that_wants_a_system_message_is_told_and_its_format_is_found() -> None:
    no_system = "{% if messages[0].role != 'system' %}{{ raise_exception('system!') }}{% endif %}"
    found = trial(no_system + of_each(PARTS))
    assert str(found.error) == "system!"
    assert found.formats["user"] is OPENAI


def test_what_it_raises_between_a_user_and_an_assistant_is_told() -> None:
    found = trial(
        "{% for m in messages %}{{ m.content }}{{ 1 // (3 - messages|length) }}{% endfor %}"
    )
    assert isinstance(found.error, ZeroDivisionError)
    assert found.lost == ()


def test_the_frame_is_what_the_template_writes_itself() -> None:
    frame = ChatTemplate(family("byte-level", "chatml")).trial.frame
    assert [part for part in frame.split("\0") if part] == [
        "<|start|>system\n",
        "<|end|>\n<|start|>user\n",
        "<|end|>\n<|start|>assistant\n",
        "<|end|>\n<|start|>user\n",
        "<|end|>\n",
    ]
    assert trial("{{ messages[0].content + 1 }}").frame == ""
