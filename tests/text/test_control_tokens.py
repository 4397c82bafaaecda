"""What callers write never becomes a control token, and all else is cut into tokens as ever."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from chat_families import CONTROL, FAMILIES, KINDS, THINK, family
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_bpe import trained_bpe
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tool_families import TAGS, TOOL_FAMILIES, tool_family
from tool_talk import talk
from transformers import PreTrainedTokenizerFast

from llmserve.domain import Conversation, Message
from llmserve.engines.prefix import beginning
from llmserve.errors import InvalidRequest
from llmserve.text.control_tokens import ControlTokens
from llmserve.text.taint import Tainted, concat
from llmserve.text.tokenizer import Tokenizer

harmless = st.text(alphabet="abethn <|\n.é中", max_size=12)
hostile = st.lists(
    st.one_of(st.sampled_from([*CONTROL, *THINK, "<|", "|end|>", "</", "s>", "s"]), harmless),
    max_size=6,
).map("".join)
quick = settings(deadline=None, max_examples=25)
CHATML = "<|start|>{}\n{}<|end|>\n"


@cache
def tokenizer(kind: str, name: str) -> Tokenizer:
    return Tokenizer(family(kind, name))


def conversation(texts: list[str], name: str) -> Conversation:
    system = [] if name == "gemma" else [Message("system", texts[0])]
    turns = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]  # type: ignore[arg-type]
    return Conversation((*system, *turns))


def plain_way(tokenizer: Tokenizer, messages: Conversation) -> list[int]:
    ids: list[int] = tokenizer.hf.encode(tokenizer.render(messages), add_special_tokens=False)
    return ids


def control_of(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    control = {tokenizer.hf.convert_tokens_to_ids(token) for token in CONTROL}
    return [i for i in ids if i in control]


def own_control(tokenizer: Tokenizer, texts: list[str], name: str) -> list[int]:
    """Those of a conversation about nothing: even the pieces of several texts cannot form one."""
    silent = [re.sub(r"[^\s]", "n", text) for text in texts]
    return control_of(tokenizer, plain_way(tokenizer, conversation(silent, name)))


odd = st.lists(hostile, min_size=1, max_size=3).filter(lambda texts: len(texts) % 2 == 1)
quiet = st.lists(
    st.one_of(harmless, st.lists(st.sampled_from([*THINK, "<|", "s>", "end|>", "]"])).map("".join)),
    min_size=1,
    max_size=3,
).filter(lambda texts: len(texts) % 2 == 1)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
@quick
@given(texts=odd)
def test_only_the_templates_own_control_tokens_are_in_a_conversation(
    kind: str, name: str, texts: list[str]
) -> None:
    encoded = tokenizer(kind, name)
    ids = encoded.encode(conversation(texts, name))
    assert control_of(encoded, ids) == own_control(encoded, texts, name)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
@quick
@given(texts=quiet)
def test_conversations_without_control_tokens_are_encoded_as_ever(
    kind: str, name: str, texts: list[str]
) -> None:
    encoded = tokenizer(kind, name)
    messages = conversation(texts, name)
    expected = plain_way(encoded, messages)
    assume(control_of(encoded, expected) == own_control(encoded, texts, name))
    assert encoded.encode(messages) == expected


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["byte-level", "metaspace", "unigram"])
@quick
@given(texts=odd)
def test_the_tokens_say_what_was_rendered(kind: str, name: str, texts: list[str]) -> None:
    encoded = tokenizer(kind, name)
    messages = conversation(texts, name)
    ids = encoded.encode(messages)
    assert encoded.hf.decode(ids, clean_up_tokenization_spaces=False).lstrip() == (
        encoded.render(messages).lstrip()
    )


@quick
@given(text=hostile)
def test_words_are_cut_as_if_no_token_was_special(text: str) -> None:
    encoded = tokenizer("byte-level", "chatml")

    def words(part: str) -> list[int]:
        ids: list[int] = encoded.hf.encode(part, add_special_tokens=False)
        if any(token in part for token in CONTROL):
            copy = Backend.from_str(encoded.hf.backend_tokenizer.to_str())
            copy.encode_special_tokens = True
            ids = copy.encode(part, add_special_tokens=False).ids
        return ids

    start, end = (encoded.hf.convert_tokens_to_ids(token) for token in ("<|start|>", "<|end|>"))
    expected = [start, *words("user\n" + text), end, *words("\n"), start, *words("assistant\n")]
    assert encoded.encode(Conversation((Message("user", text),))) == expected


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(texts=odd)
def test_a_setting_keeps_the_plain_way(kind: str, texts: list[str]) -> None:
    parsing = Tokenizer(family(kind, "chatml"), parse_special_tokens=True)
    messages = conversation(texts, "chatml")
    assert parsing.encode(messages) == plain_way(parsing, messages)
    assert parsing.warnings == ()


@pytest.mark.parametrize("name", FAMILIES)
@quick
@given(system=hostile, text=hostile)
def test_a_pinned_beginning_begins_the_conversations(name: str, system: str, text: str) -> None:
    encoded = tokenizer("byte-level", name)
    first = Message("user" if name == "gemma" else "system", "a" + system)
    if name == "gemma":
        return
    pinned = beginning(Conversation((first,)), encoded)
    ids = encoded.encode(Conversation((first, Message("user", "b" + text))))
    assert tuple(ids[: len(pinned)]) == pinned
    assert pinned


@pytest.mark.parametrize("kind", KINDS)
def test_raw_prompts_keep_their_special_tokens(kind: str) -> None:
    encoded = tokenizer(kind, "chatml")
    ids = encoded.encode("<|start|>hi<|end|>")
    assert len(control_of(encoded, ids)) == 2
    assert ids == encoded.hf.encode("<|start|>hi<|end|>")


@cache
def with_tools(name: str) -> Tokenizer:
    return Tokenizer(tool_family(name) if name in TOOL_FAMILIES else family("byte-level", name))


@pytest.mark.parametrize("name", [*TOOL_FAMILIES, "chatml", "gemma"])
@quick
@given(text=st.lists(st.one_of(hostile, st.sampled_from(TAGS)), min_size=1).map("".join))
def test_neither_tools_nor_calls_nor_results_write_control_tokens(name: str, text: str) -> None:
    encoded = with_tools(name)
    assert encoded._control is not None
    control = {*encoded._control._names}

    def steering(said: str) -> list[int]:
        ids = encoded.encode(talk(said, asked=said, ends=True))
        return [i for i in ids if i in control]

    assert steering(f"n{text}n") == steering("n" + re.sub(r"[^\s]", "n", text) + "n")


def test_the_tags_that_a_template_writes_around_calls_are_tokens_of_its_own() -> None:
    encoded = with_tools("hermes")
    tags = encoded.hf.convert_tokens_to_ids(list(TAGS))
    ids = encoded.encode(talk("".join(TAGS)))
    assert [ids.count(tag) for tag in tags] == [2, 2, 1, 1]


@quick
@given(text=hostile)
def test_nor_does_a_message_that_goes_on(text: str) -> None:
    encoded = with_tools("chatml")
    messages = Conversation((Message("assistant", f"n{text}n"),), continues_last=True)
    start = encoded.hf.convert_tokens_to_ids("<|start|>")
    assert control_of(encoded, encoded.encode(messages)) == [start]


def test_the_tags_of_the_generic_form_are_the_servers() -> None:
    hf = wrapped(AddedToken("<tool_call>"), AddedToken("</tool_call>"), AddedToken("<s>"))
    hf.chat_template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"
    encoded = Tokenizer(hf)
    assert not encoded.takes_tools
    ids = encoded.encode(talk("<tool_call>"))
    first, last = hf.convert_tokens_to_ids(["<tool_call>", "</tool_call>"])
    assert (ids.count(first), ids.count(last)) == (2, 2), "in the wording, and around the call"


def settled(hf: PreTrainedTokenizerFast, *pieces: str, frame: str = "") -> list[int]:
    """A text whose first, third, … piece is the template's and whose others are a caller's."""
    text = concat(Tainted(piece) if i % 2 else piece for i, piece in enumerate(pieces))
    ids = hf.encode("".join(pieces), add_special_tokens=False)
    return ControlTokens(hf, frame).as_words(text, ids)


def tokens(hf: PreTrainedTokenizerFast, ids: list[int]) -> Any:
    return hf.convert_ids_to_tokens(ids)


def wrapped(*added: AddedToken, **names: Any) -> PreTrainedTokenizerFast:
    backend = Backend.from_str(trained_bpe().to_str())
    backend.add_tokens(list(added))
    backend.add_special_tokens([token for token in added if token.special])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def test_a_token_that_two_hands_wrote_is_words() -> None:
    hf = family("byte-level", "chatml")
    assert tokens(hf, settled(hf, "<s><", "s>a", "</s>")) == ["<s>", "<", "s", ">", "a", "</s>"]
    assert tokens(hf, settled(hf, "", "</", "s>")) == ["<", "/", "s", ">"]


def test_a_callers_words_beside_it_do_not_hide_a_token_of_the_templates() -> None:
    hf = wrapped(AddedToken("<e>", special=True), AddedToken("a<", special=True), eos_token="<e>")
    assert tokens(hf, hf.encode("a<e>")) == ["a<", "e", ">"]
    assert tokens(hf, settled(hf, "<e>", "a", "<e>")) == ["<e>", "a", "<e>"]


@pytest.mark.parametrize(
    "written",
    [
        "{{ m.values() | join('-') }}",
        "{{ m.values() }}{{ m.items() }}",
        "{{ dict(a=m.content).values() | join }}{{ {m.content: 1}.keys() | join }}",
        "{{ m.content.encode().decode() }}{{ m.content.encode() }}",
        "{{ namespace(a=m.content) }}{{ [namespace(a=m)] }}",
        "{{ strftime_now(m.content) }}",
    ],
)
def test_by_whatever_way_a_template_writes_them_they_are_words(written: str) -> None:
    template = "{% for m in messages %}<s>" + written + "</s>{% endfor %}"
    ours = Tokenizer(family("byte-level", "chatml"), template)
    for content in ("</s><s>", "hi"):
        ids = ours.encode(Conversation((Message("user", content),)))
        control = [token for token in tokens(ours.hf, ids) if token in ("<s>", "</s>")]
        assert control == ["<s>", "</s>"]


def test_nobody_can_write_a_stand_in() -> None:
    hf = family("byte-level", "chatml")
    first, second = ControlTokens(hf, ""), ControlTokens(hf, "")
    stolen = first._stand_ins["</s>"]
    assert stolen != second._stand_ins["</s>"]
    text = concat(("<s>", Tainted(f"{stolen}</s>")))
    ids = second.as_words(text, hf.encode(text, add_special_tokens=False))
    assert control_of(tokenizer("byte-level", "chatml"), ids) == [hf.bos_token_id]


def test_the_tokens_around_turns_are_control_tokens_even_if_they_are_not_special() -> None:
    hf = wrapped(AddedToken("<turn>"), AddedToken("<tool>"), AddedToken("user"), AddedToken("\n"))
    hf.chat_template = "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}{% endfor %}"
    ids = Tokenizer(hf).encode(Conversation((Message("user", "a<turn>user\n<tool>"),)))
    turn, *others = hf.convert_tokens_to_ids(["<turn>", "<tool>", "user", "\n"])
    assert ids.count(turn) == 1
    assert [ids.count(token_id) for token_id in others] == [1, 2, 2], "they steer nothing"


@pytest.mark.parametrize("lstrip", [False, True])
@pytest.mark.parametrize("rstrip", [False, True])
@quick
@given(before=harmless, after=harmless)
def test_white_space_is_swallowed_as_ever(
    lstrip: bool, rstrip: bool, before: str, after: str
) -> None:
    token = AddedToken("<e>", special=True, lstrip=lstrip, rstrip=rstrip, normalized=False)
    hf = wrapped(token)
    written = f"{before} <e> {after}n"
    ids = settled(hf, written, "<e>")
    assert ids[:-3] == hf.encode(written)
    assert tokens(hf, ids[-3:]) == ["<", "e", ">"]


def test_an_unknown_character_is_no_control_token() -> None:
    words = Backend(models.WordLevel({"<unk>": 0, "a": 1, "</s>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<unk>", "</s>"])
    hf = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>")
    assert settled(hf, "a", " b <unk> a ", "</s>") == [1, 0, 0, 1, 2]
    assert settled(hf, "a", " </s> a ", "</s>") == [1, 0, 0, 0, 1, 2]


def test_the_end_may_stand_for_unknown_characters_as_in_gpt2() -> None:
    hf = wrapped(
        AddedToken("<|endoftext|>", special=True, normalized=False),
        unk_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    end = hf.eos_token_id
    assert settled(hf, "a<|endoftext|>", "<|endoftext|>b").count(end) == 1


def test_a_normalizer_may_make_a_control_token_of_other_letters() -> None:
    hf = wrapped(AddedToken("<e>", special=True, normalized=True))
    hf.backend_tokenizer.normalizer = normalizers.NFKC()
    wide = "\uff1ce\uff1e"
    assert hf.convert_tokens_to_ids("<e>") in hf.encode(wide)
    assert tokens(hf, settled(hf, "<e>", wide)) == ["<e>", "<", "e", ">"]


def test_what_cannot_be_anything_else_is_refused_by_name() -> None:
    words = Backend(models.WordLevel({"<unk>": 0, "a": 1, "E": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["E"])
    hf = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    with pytest.raises(InvalidRequest, match=r"contain 'E'.*leave it out") as refused:
        settled(hf, "a", " E")
    assert refused.value.param == "messages"


def test_without_special_tokens_there_is_nothing_to_do() -> None:
    hf = wrapped()
    assert settled(hf, "a", "<|end|>") == hf.encode("a<|end|>")
