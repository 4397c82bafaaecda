"""From a conversation's messages to the turns that a chat template is given.

What callers wrote is `Tainted`; roles, keys and the text of the generic form are ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from llmserve.domain import Conversation, Message, ToolCall
from llmserve.text import generic_tools
from llmserve.text.call_arguments import NO_ARGUMENTS, arguments_object
from llmserve.text.taint import CONTINUED, MARK, NO_MARK, Tainted, concat, tainted
from llmserve.text.turn_forms import CallForm, NoContent, TurnForms

Turn = dict[str, Any]

SHORT_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


class Turns:
    """One conversation in the forms of one template. Used by one thread.

    Attributes:
        turns: what the template is given.
        origins: for each turn the number of the message that it comes from.
    """

    def __init__(self, conversation: Conversation, forms: TurnForms, tools: Sequence[Any]) -> None:
        """`tools` are definitions, JSON-like, that are to be shown in the generic form."""
        self._forms = forms
        self._names: dict[str, str] = {}  # of the functions that were called, by the call's id
        self._results: list[str] | None = None  # of the last turn, if a user says results in it
        self.turns: list[Turn] = []
        self.origins: list[int] = []
        last = len(conversation.messages) - 1
        for number, message in enumerate(conversation.messages):
            mark = CONTINUED if conversation.continues_last and number == last else MARK
            self._add_message(number, message, mark)
        for turn in self.turns:
            if isinstance(turn.get("content"), list):
                turn["content"] = Tainted("\n", NO_MARK).join(turn["content"])
        if tools:
            self._show(generic_tools.listing(tools))
        for turn in self.turns:
            if turn.get("content") is not None:
                content_format = forms.formats.get(turn["role"], forms.formats["system"])
                turn["content"] = content_format.content(turn["content"])

    def _add(self, number: int, turn: Turn) -> None:
        self.turns.append(turn)
        self.origins.append(number)
        self._results = None

    def _add_message(self, number: int, message: Message, mark: bytes) -> None:
        content = tainted(message.content, mark)
        if message.role == "tool":
            self._add_result(number, message, content)
            return
        is_system = message.role == "developer" and not self._forms.knows_developer
        turn: Turn = {"role": "system" if is_system else message.role, "content": content}
        if message.name:
            turn["name"] = tainted(message.name, mark)
        if message.reasoning:
            for key in {"reasoning_content": None, self._forms.reasoning_key: None}:
                turn[key] = tainted(message.reasoning, mark)
        if message.tool_calls:
            self._add_calls(number, turn, message.tool_calls, mark)
        else:
            self._add(number, turn)

    def _add_calls(self, number: int, turn: Turn, calls: Sequence[ToolCall], mark: bytes) -> None:
        self._names.update((call.id, call.name) for call in calls)
        form, content = self._forms.calls, turn["content"]
        if form is None:
            said = [content] if content else []
            said += [generic_tools.call(call.name, call.arguments, mark) for call in calls]
            self._add(number, turn | {"content": Tainted("\n", NO_MARK).join(said)})
            return
        written = {"tool_calls": [_call(call, form, mark) for call in calls]}
        if content and not form.splits:
            self._add(number, turn | written)
            return
        if content:
            self._add(number, turn)
            turn = {"role": turn["role"]}
        turn.pop("content", None)
        if form.no_content is not NoContent.ABSENT:
            turn["content"] = Tainted("") if form.no_content is NoContent.EMPTY else None
        self._add(number, turn | written)

    def _add_result(self, number: int, message: Message, content: str) -> None:
        forms = self._forms
        if not forms.takes_results:
            said = generic_tools.result(content)
            if self._results is None:
                results = [said]
                self._add(number, {"role": "user", "content": results})
                self._results = results
            else:  # many templates want users and assistants to alternate
                self._results.append(said)
            return
        turn: Turn = {"role": "tool", "content": content}
        call_id = message.tool_call_id
        if call_id is not None:
            has_short_ids = forms.calls is not None and forms.calls.has_short_ids
            turn["tool_call_id"] = tainted(_short(call_id) if has_short_ids else call_id)
        name = message.name or self._names.get(call_id or "")
        self._add(number, turn | ({"name": tainted(name)} if name else {}))

    def _show(self, text: str) -> None:
        """Put a text in front of everything: into the system message, or a user's."""
        roles = [turn["role"] for turn in self.turns]
        if self._forms.takes_system:
            role, place = "system", 0 if roles[0] in ("system", "developer") else None
        else:
            role, place = "user", roles.index("user") if "user" in roles else None
        if place is None:
            self.turns.insert(0, {"role": role, "content": text})
            self.origins.insert(0, 0)
        else:
            turn = self.turns[place]
            turn["content"] = concat((text, "\n\n", turn["content"]))


def _call(call: ToolCall, form: CallForm, mark: bytes) -> dict[str, Any]:
    arguments: Any = tainted(call.arguments if call.arguments.strip() else NO_ARGUMENTS, mark)
    if not form.takes_text:
        parsed = arguments_object(call.arguments, mark)
        if parsed is not None:
            arguments = parsed
        elif form.wraps_text:
            arguments = {"arguments": arguments}
    return {
        "id": tainted(_short(call.id) if form.has_short_ids else call.id, mark),
        "type": "function",
        "function": {"name": tainted(call.name, mark), "arguments": arguments},
    }


def _short(call_id: str) -> str:
    """An id of nine letters and digits, always the same for the same id."""
    if SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode(errors="surrogatepass")).hexdigest()[:9]
