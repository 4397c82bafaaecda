"""Conversations to text: as transformers does it, and every way to fail is the caller's 400."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from chat_families import CONTROL, FAMILIES, THINK, family
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_families import TAGS, TOOL_FAMILIES, template_of, tool_family
from tool_talk import CALL_ID, call, definition, talk, tool
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from llmserve.domain import Conversation, Message, Role, Tool
from llmserve.errors import InvalidRequest
from llmserve.text.chat_template import MAX_COMPLAINT, ChatTemplate
from llmserve.text.content_format import ContentFormat
from llmserve.text.taint import MARK, NO_MARK, marks_of, plain

words = st.lists(
    st.one_of(
        st.sampled_from(
            [*CONTROL, *THINK, "<", "|end|>", "<|", "s>", " ", "\n", "<tool_response>"]
        ),
        st.text(max_size=4),
        st.text(alphabet="ab <>|/\n", max_size=8),
    ),
    max_size=8,
).map("".join)


def conversation(texts: list[str], *, system: str | None = None) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    return Conversation((*([] if system is None else [Message("system", system)]), *turns))


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


def sent(conversation: Conversation, family_name: str) -> list[dict[str, Any]]:
    """The messages as transformers is to be given them for this family."""
    wants_text = family_name == "deepseek"
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": asked.id,
                    "type": "function",
                    "function": {
                        "name": asked.name,
                        "arguments": asked.arguments if wants_text else json.loads(asked.arguments),
                    },
                }
                for asked in message.tool_calls
            ]
            turn["content"] = message.content or None
            if not message.content and not wants_text:
                del turn["content"]
        if message.role == "tool":
            turn |= {"tool_call_id": message.tool_call_id, "name": "find"}
        messages.append(turn)
    return messages


def transformers_way(
    hf: PreTrainedTokenizerFast, messages: list[dict[str, Any]], **fields: Any
) -> str:
    """Below `apply_chat_template`, which since 5.22 takes away a content that is `None`."""
    fields = {"add_generation_prompt": True} | fields | hf.special_tokens_map
    [text], _ = render_jinja_template([messages], chat_template=hf.chat_template, **fields)
    return str(text)


@pytest.mark.parametrize("name", TOOL_FAMILIES)
@settings(deadline=None, max_examples=20)
@given(text=words, asked=words, ends=st.booleans(), reasoning=words)
def test_tools_calls_results_and_reasoning_are_rendered_as_with_transformers(
    name: str, text: str, asked: str, ends: bool, reasoning: str
) -> None:
    hf = tool_family(name)
    conversation = talk(text, asked=asked, ends=ends)
    user, calling, *rest = conversation.messages
    messages = (user, replace(calling, reasoning=reasoning), *rest)
    conversation = replace(conversation, messages=messages)
    expected = transformers_way(hf, sent(conversation, name), tools=[definition(text)])
    assert template_of(name).render(conversation) == expected


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_tools_are_shown_and_of_no_family_is_a_call_or_a_result_lost(name: str) -> None:
    text = template_of(name).render(talk("ΓΔ"))
    assert "find" in text
    assert text.casefold().count("γδ") >= 6, "in the definition, twice in the call, in the result"
    assert ("<tools>" in text) == (name in ("hermes", *FAMILIES))
    greek = [mark for c, mark in zip(plain(text), marks_of(text), strict=True) if c.upper() in "ΓΔ"]
    assert set(greek) == {MARK[0]}


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_without_tools_there_is_nothing_of_them(name: str) -> None:
    text = template_of(name).render(conversation(["hi"]))
    assert "tool" not in text
    assert "unction" not in text


def test_the_generic_form_is_the_servers_but_for_what_callers_wrote() -> None:
    template = ChatTemplate(family("byte-level", "gemma"))
    text = template.render(talk("ΓΔ", asked="Γ"))
    assert not template.shows_tools
    assert [line.strip() for line in plain(text).splitlines() if "<start_of_turn>" in line] == [
        "<s><start_of_turn>user",
        "<start_of_turn>model",
        "<start_of_turn>user",
        "<start_of_turn>model",
    ]
    runs = "".join(c for c, mark in zip(plain(text), marks_of(text), strict=True) if not mark)
    for tag in ("<tools>", "</tools>", *TAGS):
        assert runs.count(tag) == plain(text).count(tag) > 0


def test_arguments_that_are_no_json_are_rendered_by_every_family() -> None:
    for name in TOOL_FAMILIES:
        user, _, result = talk("x").messages
        broken = Message("assistant", "", tool_calls=(call('{"place": brok'),))
        text = template_of(name).render(Conversation((user, broken, result)))
        assert "brok" in text


def test_a_call_and_a_content_are_both_rendered_where_only_one_is_wanted() -> None:
    user, calling, result = talk("x").messages
    both = replace(calling, content="I look.")
    text = template_of("deepseek").render(Conversation((user, both, result)))
    assert text.index("I look.") < text.index("<calls>")


def test_what_a_template_refuses_of_a_history_names_the_message() -> None:
    user, calling, result = talk("x").messages
    twice = replace(calling, tool_calls=calling.tool_calls * 2)
    cases = [
        ("llama-3.1", (user, twice, result), r"messages\.1 \(assistant\): one call at a time"),
        ("channels", (user, result), r"messages\.1 \(tool\): a result without a call"),
        (
            "mistral-tools",
            (Message("developer", "Hi"), user),
            r"messages\.0 \(developer\): only users",
        ),
    ]
    for name, messages, match in cases:
        template = template_of(name)
        with pytest.raises(InvalidRequest, match=match) as refused:
            template.render(Conversation(messages))
        assert refused.value.param == "messages"


def test_a_tool_that_a_template_refuses_is_named() -> None:
    template = template_of("xml")
    tools = (tool(), tool(), Tool("odd", '{"function": {"name": "odd"}}'), tool())
    with pytest.raises(InvalidRequest, match=r"refuses tools\.2 \(odd\): ") as refused:
        template.render(replace(talk("x"), tools=tools))
    assert refused.value.param == "tools"
    with pytest.raises(InvalidRequest, match=r"tools\.0 cannot be read") as refused:
        template.render(replace(talk("x"), tools=(Tool("odd", "[" * 10**5),)))
    assert refused.value.param == "tools.0"


def test_options_are_variables_of_the_template_and_their_strings_are_the_callers() -> None:
    template = template_of("channels")
    options = json.dumps({"reasoning_effort": "<|end|>"})
    text = template.render(replace(conversation(["hi"]), template_options=options))
    assert text.startswith("<|start|>system\nReasoning: <|end|><|end|>")
    assert marks_of(text)[27:41] == MARK * 7 + NO_MARK * 7
    for name in ("messages", "bos_token", "eos_token", "raise_exception", "namespace", "range"):
        with pytest.raises(InvalidRequest, match=f"{name} is set by the server"):
            template.render(replace(conversation(["hi"]), template_options=json.dumps({name: "x"})))


def test_an_option_may_have_any_other_name() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ turns }}{{ options }}"
    template = ChatTemplate(family("byte-level", "chatml"), source)
    options = json.dumps({"turns": "a", "options": "b", "no name": 1, "": 2, "_x": 3})
    assert template.render(replace(conversation(["hi"]), template_options=options)) == "hiab"


def test_options_that_a_template_does_not_like_are_the_callers_fault() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ 1 + (more or 0) }}"
    template = ChatTemplate(family("byte-level", "chatml"), source)
    with pytest.raises(InvalidRequest, match="TypeError"):
        template.render(replace(conversation(["hi"]), template_options='{"more": "x"}'))


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_without_a_generation_prompt_the_last_turn_is_closed(name: str) -> None:
    hf = family("byte-level", name) if name in FAMILIES else tool_family(name)
    messages = replace(conversation(["hi", "ho", "hu"]), has_generation_prompt=False)
    template = ChatTemplate(hf)
    turns = [
        {"role": m.role, "content": template.trial.formats[m.role].content(m.content)}
        for m in messages.messages
    ]
    expected = transformers_way(hf, turns, add_generation_prompt=False)
    assert template.render(messages) == expected


OPENINGS = {
    "chatml": "<|end|>\n<|start|>assistant\n",
    "llama-3": "</s><|start|>assistant<|end|>\n\n",
    "mistral": " [/INST]",
    "gemma": "<|end|>\n<start_of_turn>model\n",
    "llama-guard": "\n\n<END CONVERSATION> [/INST]",
    "qwen-3": "<|end|>\n<|start|>assistant\n",
    "hermes": "<|end|>\n<|start|>assistant\n",
    "thinking": "<|end|>\n<|start|>assistant\n<think>\n",
    "channels": "<|end|><|start|>assistant",
    "deepseek": "[/INST]<think>\n",
}


@pytest.mark.parametrize("name", OPENINGS)
@pytest.mark.parametrize("texts", [["hi"], ["<think>", "</think>", "hi<think>\n"]])
def test_the_opening_is_what_follows_the_callers_last_character(
    name: str, texts: list[str]
) -> None:
    template, messages = template_of(name), conversation(texts)
    opening = template.opening(messages, template.render(messages))
    assert opening.removeprefix("\n") == OPENINGS[name].removeprefix("\n")


def test_the_opening_of_a_conversation_in_which_nobody_said_anything_is_the_answers_turn() -> None:
    template = template_of("thinking")
    silent = conversation([""])
    opening = template.opening(silent, template.render(silent))
    assert opening == "<|start|>assistant\n<think>\n"
    closed = replace(silent, template_options='{"enable_thinking": false}')
    opening = template.opening(closed, template.render(closed))
    assert opening == "<|start|>assistant\n<think>\n\n</think>\n\n"


def test_the_opening_is_found_though_it_is_not_known_who_wrote_what() -> None:
    words = "{% for m in messages %}{{ m.content }}{% endfor %}"
    upper = "{% set t %}" + words + "{% if add_generation_prompt %}"
    template = ChatTemplate(
        family("byte-level", "chatml"), upper + "[A]{% endif %}{% endset %}{{ t | upper }}"
    )
    messages = conversation(["hi"])
    text = template.render(messages)
    assert (text, set(marks_of(text))) == ("HI[A]", {1})
    assert template.opening(messages, text) == "[A]"
    assert template.opening(replace(messages, has_generation_prompt=False), "HI") == "HI"
    refuses = "{% if not add_generation_prompt %}{{ raise_exception('no prompt') }}{% endif %}"
    wanting = ChatTemplate(family("byte-level", "chatml"), refuses + words)
    assert wanting.opening(messages, wanting.render(messages)) == ""


def test_a_tokenizer_with_its_own_code_is_given_tools_and_options() -> None:
    class Own(PreTrainedTokenizerFast):
        def apply_chat_template(self, conversation: Any, **options: Any) -> str:
            assert type(options.get("level", "")) is str
            shown = json.dumps(options["tools"]) if "tools" in options else ""
            prompt = "[A]" if options["add_generation_prompt"] else ""
            turns = "".join(json.dumps(turn) for turn in conversation)
            return shown + turns + options.get("level", "") + prompt

    hf = Own(tokenizer_object=family("byte-level", "chatml").backend_tokenizer)
    hf.chat_template = "unused"
    template = ChatTemplate(hf)
    assert template.shows_tools
    messages = replace(talk("ΓΔ"), template_options='{"level": "high"}')
    text = template.render(messages)
    assert text.startswith('[{"type": "function"')
    assert text.endswith("}high[A]")
    assert CALL_ID in text
    assert template.opening(messages, text) == "[A]"
    goes_on = replace(conversation(["hi", "well"]), continues_last=True)
    assert template.render(goes_on).endswith('"content": "well')
    assert template.opening(goes_on, template.render(goes_on)) == "well"
