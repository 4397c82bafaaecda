"""`llmserve chat`: an interactive, streamed conversation with a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console

from llmserve.cli.chat_stream import Kind, Reply
from llmserve.errors import ConfigurationError
from llmserve.printable import printable
from llmserve.server_url import server_url

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 120.0
"""Much longer than the interval of the server's keep-alive comments."""

QUOTES: Final = '"""'
HELP: Final = """\
/system TEXT   the system message from now on; without TEXT there is none
/model NAME    the model from now on; without NAME the default one
/clear         forget the conversation, but not the system message
/save FILE     write the conversation as JSON, as a request has it
/help          this list
A line that ends in \\ goes on in the next one; several lines may stand between \"\"\" and \"\"\".
Ctrl-C stops an answer, Ctrl-D leaves."""
STYLES: Final = {Kind.REASONING: "dim italic", Kind.TEXT: "", Kind.CALL: "cyan"}


class Conversation:
    """The turns so far, and the server that answers them, over the OpenAI API."""

    def __init__(
        self, url: str, fields: Mapping[str, Any], system: str | None, api_key: str | None
    ) -> None:
        """`fields` are those of every request; where they have `tools`, whoever asks also tells
        what the tools return."""
        self._url = server_url(url).geturl() + "/v1/chat/completions"
        self._fields = {"stream_options": {"include_usage": True}} | dict(fields)
        self._messages: list[dict[str, Any]] = []
        self._set_system(system or "")
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )
        self._console = Console(highlight=False)
        self._is_reached = True

    def run(self) -> bool:
        """Ask and answer until end of input; whether the server was reached for the last answer."""
        with self._client:
            while True:
                try:
                    question = self._read()
                    if question.startswith("/"):
                        self._obey(*question.partition(" ")[::2])
                    elif question:
                        self._turn(question)
                except (EOFError, KeyboardInterrupt):
                    self._console.print()
                    return self._is_reached

    def _read(self) -> str:
        """A question of one line or of several."""
        line = self._console.input("[bold]you>[/] ").strip()
        if line.startswith(QUOTES):
            text = line.removeprefix(QUOTES)
            while not text.endswith(QUOTES):
                text += "\n" + self._console.input("[bold]...>[/] ")
            return text.removesuffix(QUOTES).strip()
        while line.endswith("\\"):
            line = line.removesuffix("\\") + "\n" + self._console.input("[bold]...>[/] ").rstrip()
        return line

    def _obey(self, command: str, argument: str) -> None:
        commands: dict[str, Callable[[str], None]] = {
            "/system": self._set_system,
            "/model": self._set_model,
            "/clear": lambda _: self._set_system(self._system),
            "/save": self._save,
            "/help": lambda _: self._console.print(HELP, markup=False),
        }
        if command in commands:
            commands[command](argument.strip())
        else:
            self._complain(f"there is no {command}; /help lists the commands")

    @property
    def _system(self) -> str:
        first = self._messages[0] if self._messages else {}
        return str(first["content"]) if first.get("role") == "system" else ""

    def _set_system(self, text: str) -> None:
        """The conversation begins again, as the answers so far followed another message."""
        self._messages = [{"role": "system", "content": text}] if text else []

    def _set_model(self, name: str) -> None:
        self._fields.pop("model", None)
        if name:
            self._fields["model"] = name

    def _save(self, path: str) -> None:
        text = json.dumps({"messages": self._messages}, indent=2, ensure_ascii=False)
        try:
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            self._complain(f"not saved: {error}")

    def _turn(self, question: str) -> None:
        before = len(self._messages)
        self._messages.append({"role": "user", "content": question})
        if not self._answer():
            del self._messages[before:]

    def _answer(self) -> bool:
        """Show the answer, and that to the results of tools; whether there was any."""
        reply = Reply()
        self._is_reached = True
        try:
            for kind, piece in self._stream(reply):
                style = STYLES[kind]
                self._console.print(
                    printable(piece), end="", markup=False, soft_wrap=True, style=style
                )
        except KeyboardInterrupt:
            reply.calls.clear()  # closing the response made the server stop; they may be halves
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            self._is_reached = False
            self._complain(f"{self._url}: {error or type(error).__name__}")
        except ConfigurationError as error:
            self._complain(error.message)
        self._console.print()
        if reply.speed:
            self._console.print(reply.speed, style="dim", markup=False)
        if not reply.text and not reply.calls:
            return False
        self._messages.append(reply.message())
        if reply.calls:
            for call in reply.calls.values():
                result = self._console.input(f"[bold]{printable(call.name)} returns>[/] ")
                self._messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
            return self._answer()
        return True

    def _stream(self, reply: Reply) -> Iterator[tuple[Kind, str]]:
        body = self._fields | {"messages": self._messages, "stream": True}
        with self._client.stream("POST", self._url, json=body) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise ConfigurationError(_error_message(response))
            yield from reply.pieces(response.iter_lines())

    def _complain(self, message: str) -> None:
        self._console.print(printable(message), style="red", markup=False)


def _error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}"
