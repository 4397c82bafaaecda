"""From what a request asks to the rule of its answers."""

from __future__ import annotations

from typing import Any

import pytest
from bounded import run
from engines.rules.vocabulary import allowed
from marked_tokenizer import marked_tokenizer

from llmserve.domain import (
    Caller,
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Message,
    SamplingFields,
    SamplingParams,
    Tool,
    ToolChoice,
    ToolMode,
)
from llmserve.engines.constraints.compiler import ConstraintCompiler
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.restrictions import Restrictions
from llmserve.engines.token_rule import AnswerRule
from llmserve.errors import InvalidRequest, ModelUnloaded
from llmserve.text.output.choice import ChosenSyntax
from llmserve.text.output.families import HERMES
from llmserve.text.output.output_reader import OutputReader
from llmserve.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("no_thread_left")

HF = marked_tokenizer((), ("<think>", "</think>", "<tool_call>", "</tool_call>"))
THINK, END, CALL = HF.convert_tokens_to_ids(["<think>", "</think>", "<tool_call>"])
WORDS = -(-len(HF) // 32)
[A, X] = HF.encode("ax")
TALK = Conversation((Message("user", "hi"),))
TOOLS = (Tool("look", "{}"), Tool("listen", "{}"))
WITH_TOOLS = Conversation(TALK.messages, TOOLS)
WORD = Constraint(ConstraintKind.REGEX, "a", "guided_regex")
OPEN, CLOSED, UNSAID = "<think>\n", "<think>\n\n</think>\n\n", "assistant: "


def rule_for(
    request: GenerationRequest,
    opening: str = UNSAID,
    *,
    has_reader: bool = True,
    has_compiler: bool = True,
    **sampling: Any,
) -> AnswerRule | None:
    tokenizer = Tokenizer(HF)
    made: list[AnswerRule | None] = []

    async def test() -> None:
        pool = PreparationPool("m")
        compiler = ConstraintCompiler("m", Vocabulary(tokenizer, len(HF), (HF.eos_token_id,)))
        restrictions = Restrictions(
            tokenizer,
            OutputReader(ChosenSyntax(HERMES, "a test says so"), HF) if has_reader else None,
            compiler if has_compiler else None,
            pool,
        )
        try:
            new_rule = await restrictions.of(
                request, SamplingParams(**sampling), opening, Caller(), lambda: lambda: None
            )
            made.append(None if new_rule is None else new_rule())
        finally:
            pool.close(ModelUnloaded("over"))
            compiler.close(ModelUnloaded("over"))

    run(test)
    return made[0]


def asked(prompt: Any = TALK, **fields: Any) -> GenerationRequest:
    return GenerationRequest("r", prompt, **fields)


def tokens(rule: AnswerRule | None) -> set[int]:
    assert rule is not None
    return allowed(rule, WORDS * 32)


def test_whoever_asks_for_nothing_gets_any_token() -> None:
    for prompt in ("raw", (1, 2), TALK, WITH_TOOLS):
        assert rule_for(asked(prompt)) is None


def test_a_format_begins_where_the_answer_does() -> None:
    form = asked(constraint=WORD)
    assert tokens(rule_for(form, CLOSED)) == {A}
    assert tokens(rule_for(form, UNSAID)) == {A, THINK}, "the model may reason first"
    inside = rule_for(form, OPEN)
    assert inside is not None
    assert inside.is_idle
    inside.accept(END)
    assert tokens(inside) == {A}


def test_a_raw_prompt_has_no_reasoning() -> None:
    assert tokens(rule_for(asked("raw", constraint=WORD))) == {A}


def test_a_call_that_must_be_made_begins_with_its_delimiter() -> None:
    required = asked(WITH_TOOLS, tool_choice=ToolChoice(ToolMode.REQUIRED))
    assert tokens(rule_for(required, CLOSED)) <= {CALL, *HF.encode("\n")}
    assert CALL in tokens(rule_for(required, CLOSED))


def test_an_answer_in_a_format_may_be_a_call_instead() -> None:
    either = asked(WITH_TOOLS, constraint=WORD)
    rule = rule_for(either, CLOSED)
    assert tokens(rule) == {A, CALL, *HF.encode("\n")}
    assert rule is not None
    rule.accept(A)
    assert rule.is_complete
    none = asked(WITH_TOOLS, constraint=WORD, tool_choice=ToolChoice(ToolMode.NONE))
    assert tokens(rule_for(none, CLOSED)) == {A}


def test_bans_and_budgets_hold_beside_a_format() -> None:
    rule = rule_for(
        asked(constraint=Constraint(ConstraintKind.REGEX, "[ax]", "regex")),
        OPEN,
        thinking_budget=1,
        bad_words=("x",),
    )
    assert rule is not None
    rule.accept(A)
    assert tokens(rule) == {END}, "the budget is used up"
    rule.accept(END)
    assert tokens(rule) == {A}


def test_a_budget_of_a_model_that_does_not_reason_is_refused_by_name() -> None:
    request = asked(sampling=SamplingFields(thinking_budget=3))
    with pytest.raises(InvalidRequest) as refused:
        rule_for(request, has_reader=False, thinking_budget=3)
    assert refused.value.param == "thinking_token_budget"
    assert rule_for(asked(), has_reader=False, thinking_budget=3) is None, "an operator's wish"
    kept = asked(sampling=SamplingFields(thinking_budget=3), requires_reasoning=False)
    assert rule_for(kept, has_reader=False, thinking_budget=3) is None, "of no tokens at all"


def test_where_nothing_can_be_compiled_a_format_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidRequest) as refused:
        rule_for(asked(constraint=WORD), has_compiler=False)
    assert refused.value.param == "guided_regex"
