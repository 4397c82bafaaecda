"""Conversations to text: as transformers does it, and every way to fail is the caller's 400."""

from __future__ import annotations

from typing import Any

import pytest
from chat_families import FAMILIES, family
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import conversation, words
from transformers import PreTrainedTokenizerFast

from llmserve.domain import Conversation, Message
from llmserve.errors import InvalidRequest
from llmserve.text.chat_template import MAX_COMPLAINT, ChatTemplate
from llmserve.text.content_format import ContentFormat
from llmserve.text.taint import MARK, marks_of, plain


def reference(hf: PreTrainedTokenizerFast, template: ChatTemplate, messages: Conversation) -> str:
    """What transformers renders."""
    turns = [
        {"role": m.role, "content": template.trial.formats[m.role].content(m.content)}
        for m in messages.messages
    ]
    return str(hf.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=40)
@given(texts=st.lists(words, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1))
def test_every_family_renders_as_with_transformers(name: str, texts: list[str]) -> None:
    hf = family("byte-level", name)
    template = ChatTemplate(hf)
    for system in (None, "Be <|end|> brief."):
        if name == "gemma" and system is not None:
            continue
        messages = conversation(texts, system=system)
        rendered = template.render(messages)
        assert rendered == reference(hf, template, messages)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_template_writes_has_no_marks_and_what_a_caller_wrote_has(name: str) -> None:
    def without_spaces(text: str) -> tuple[str, bytes]:
        pairs = [
            (c, m) for c, m in zip(plain(text), marks_of(text), strict=True) if not c.isspace()
        ]
        return "".join(c for c, _ in pairs), bytes(m for _, m in pairs)

    template = ChatTemplate(family("byte-level", name))
    text, marks = without_spaces(template.render(Conversation((Message("user", "ΑΒΓΔ ΕΖΗΘ"),))))
    assert "ΑΒΓΔ" in text
    assert marks == bytes(MARK[0] if letter in "ΑΒΓΔΕΖΗΘ" else 0 for letter in text)


def test_a_name_is_the_callers_and_a_role_is_ours() -> None:
    template = ChatTemplate(
        family("byte-level", "chatml"),
        "{% for m in messages %}{{ m.name }}:{{ m.role }}:{{ m.content }}{% endfor %}",
    )
    text = template.render(Conversation((Message("user", "hi", name="Ann"),)))
    assert (text, marks_of(text)) == ("Ann:user:hi", b"\1\1\1" + bytes(6) + b"\1\1")


RAISING = {
    "raise_exception": ("{{ raise_exception('not so') }}", "refuses {}: not so"),
    "type": ("{{ m.content + 1 }}", "fails on {} (line 3): TypeError: can only concatenate"),
    "undefined": ("{{ m.tool_calls[0].id }}", "refuses {}: "),
    "zero": ("{{ 1 // 0 }}", "fails on {} (line 3): ZeroDivisionError"),
    "key": ("{{ {}.popitem() }}", "refuses {}: "),
    "recursion": (
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "fails on {} (line 3): RecursionError",
    ),
    "memory": ("{{ 'x' * 2**60 }}", "fails on {} (line 3): "),
    "value": ("{{ '%d' % m.content }}", "fails on {} (line 3): TypeError"),
    "attribute": ("{{ m.content.no_such() }}", "refuses {}: "),
    "security": ("{{ m.content.__class__.mro() }}", "refuses {}: "),
    "filter": ("{{ m.content | round }}", "fails on {} (line 3): "),
}


@pytest.mark.parametrize("kind", RAISING)
@pytest.mark.parametrize("place", [0, 1, 6])
def test_whatever_a_template_raises_is_told_with_the_message_at_fault(
    kind: str, place: int
) -> None:
    raises, told = RAISING[kind]
    source = (
        "{% for m in messages %}\n{% if m.content == 'bad' %}\n"
        + raises
        + "\n{% endif %}\n{{ m.content }}{% endfor %}"
    )
    template = ChatTemplate(family("byte-level", "chatml"), source)
    assert template.problems == ()
    texts = ["fine"] * 7
    texts[place] = "bad"
    with pytest.raises(InvalidRequest) as refused:
        template.render(conversation(texts))
    role = ("user", "assistant")[place % 2]
    assert refused.value.message.startswith(
        "the chat template of model.toml " + told.format(f"messages.{place} ({role})")
    )
    assert refused.value.param == "messages"


def test_a_complaint_about_how_a_conversation_ends_names_its_last_message() -> None:
    source = (
        "{% if messages[-1].role != 'user' %}{{ raise_exception('a user must end') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    template = ChatTemplate(family("byte-level", "chatml"), source)
    with pytest.raises(InvalidRequest, match=r"refuses messages\.7 \(assistant\): a user must end"):
        template.render(conversation(["hi"] * 8))


def test_roles_that_do_not_alternate_are_the_fault_of_the_first_that_does_not() -> None:
    template = ChatTemplate(family("byte-level", "mistral"))
    turns = [Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")]
    with pytest.raises(
        InvalidRequest, match=r"messages\.2 \(assistant\): the roles must alternate"
    ):
        template.render(
            Conversation((*turns, Message("user", "d"), Message("assistant", "e"))),
        )


def test_a_long_complaint_is_cut() -> None:
    template = ChatTemplate(
        family("byte-level", "chatml"),
        "{{ messages[-1].content }}{% if messages|length == 2 %}"
        "{{ raise_exception('no: ' + messages[0].content) }}{% endif %}",
    )
    with pytest.raises(InvalidRequest) as refused:
        template.render(conversation(["x" * 10**6, "y"]))
    assert len(refused.value.message) < MAX_COMPLAINT + 100


def test_finding_the_fault_in_a_long_conversation_takes_few_renderings() -> None:
    rendered: list[int] = []
    source = (
        "{% for m in messages %}{{ m.content + (1 if m.content == 'bad' else '') }}{% endfor %}"
    )
    template = ChatTemplate(family("byte-level", "chatml"), source)
    original = template._render

    def counting(turns: Any, **options: Any) -> str:
        rendered.append(len(turns))
        return original(turns, **options)

    template._render = counting  # type: ignore[method-assign]
    texts = ["fine"] * 1001
    texts[700] = "bad"
    with pytest.raises(InvalidRequest, match=r"messages\.700 "):
        template.render(conversation(texts))
    assert len(rendered) < 15


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ 'a' ", "{% nonsense %}", "{{ x | no_filter }}"]
)
def test_what_does_not_parse_is_told_at_once_and_to_whoever_sends_a_conversation(
    source: str,
) -> None:
    template = ChatTemplate(family("byte-level", "chatml"), source)
    [problem] = template.problems
    assert "does not parse (line 1): " in problem
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="does not parse"):
            template.render(conversation(["hi"]))


def test_one_that_loses_what_users_say_takes_no_conversations() -> None:
    template = ChatTemplate(family("byte-level", "chatml"), "{{ messages[0].role }}")
    assert template.problems == (
        "the chat template of model.toml loses the words of user, system, assistant messages",
    )
    with pytest.raises(InvalidRequest, match=r"loses the words of user.*use /v1/completions"):
        template.render(conversation(["hi"]))


def test_one_that_loses_an_assistants_words_is_told_and_used() -> None:
    source = "{% for m in messages %}{{ m.content if m.role != 'assistant' }}{% endfor %}"
    template = ChatTemplate(family("byte-level", "chatml"), source)
    assert template.problems == (
        "the chat template of model.toml loses the words of assistant messages",
    )
    assert template.render(conversation(["a", "b", "c"])) == "ac"


def named(templates: dict[str, str]) -> PreTrainedTokenizerFast:
    hf = PreTrainedTokenizerFast(tokenizer_object=family("byte-level", "chatml").backend_tokenizer)
    hf.chat_template = templates
    return hf


def test_of_several_named_templates_the_default_is_used() -> None:
    plain_one = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template = ChatTemplate(named({"default": plain_one, "tool_use": "{{ 1 / 0 }}"}))
    assert template.problems == ()
    assert template.render(conversation(["hi"])) == "hi"
    broken = ChatTemplate(named({"default": "{{ raise_exception('no') }}", "rag": plain_one}))
    [problem] = broken.problems
    assert problem == "the model's chat template 'default' refuses a plain conversation: no"


def test_several_named_templates_without_a_default_are_told() -> None:
    template = ChatTemplate(named({"rag": "{{ messages }}", "tool_use": "{{ messages }}"}))
    [problem] = template.problems
    assert "cannot be used: This model has multiple chat templates with no default" in problem
    with pytest.raises(InvalidRequest, match="multiple chat templates"):
        template.render(conversation(["hi"]))


class OwnRenderer(PreTrainedTokenizerFast):
    """As some tokenizers with code of their own."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        if any(turn["content"] == "bad" for turn in conversation):
            raise KeyError("bad")
        return "".join(f"[{turn['content']}]" for turn in conversation)


def test_a_tokenizer_that_renders_with_its_own_code_is_asked_to() -> None:
    hf = OwnRenderer(tokenizer_object=family("byte-level", "chatml").backend_tokenizer)
    hf.chat_template = "unused"
    template = ChatTemplate(hf)
    assert (template.problems, template.marks_words) == ((), False)
    assert template.render(conversation(["a", "b"])) == "[a][b]"
    with pytest.raises(InvalidRequest, match=r"fails on messages\.1 \(assistant\): KeyError"):
        template.render(conversation(["a", "bad", "c"]))


@pytest.mark.parametrize("content_format", ContentFormat)
def test_a_content_has_the_text_in_either_format(content_format: ContentFormat) -> None:
    assert "hello" in str(content_format.content("hello"))


def test_one_that_loses_some_words_and_raises_at_others_is_told_to_do_both() -> None:
    source = (
        "{% for m in messages %}{{ m.content if m.role != 'system' }}"
        "{{ raise_exception('no assistants') if m.role == 'assistant' }}{% endfor %}"
    )
    lost, raised = ChatTemplate(family("byte-level", "chatml"), source).problems
    assert "loses the words of system messages" in lost
    assert "refuses a plain conversation: no assistants" in raised
