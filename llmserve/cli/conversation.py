"""`llmserve chat`: an interactive, streamed conversation with a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
from rich.console import Console

from llmserve.errors import ConfigurationError
from llmserve.printable import printable
from llmserve.server_url import server_url

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 120.0
"""Much longer than the interval of the server's keep-alive comments."""


class Conversation:
    """The turns so far, and the server that answers them, over the OpenAI API."""

    def __init__(
        self, url: str, fields: Mapping[str, Any], system: str | None, api_key: str | None
    ) -> None:
        self._url = server_url(url).geturl() + "/v1/chat/completions"
        self._fields = dict(fields)
        self._messages: list[dict[str, str]] = []
        if system:
            self._messages.append({"role": "system", "content": system})
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
                    question = self._console.input("[bold]you>[/] ").strip()
                except (EOFError, KeyboardInterrupt):
                    self._console.print()
                    return self._is_reached
                if question:
                    self._turn(question)

    def _turn(self, question: str) -> None:
        self._messages.append({"role": "user", "content": question})
        answer = ""
        self._is_reached = True
        try:
            for piece in self._stream():
                answer += piece
                self._console.print(printable(piece), end="", markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            pass  # closing the response made the server stop
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            self._is_reached = False
            self._complain(f"{self._url}: {error or type(error).__name__}")
        except ConfigurationError as error:
            self._complain(error.message)
        self._console.print()
        if answer:
            self._messages.append({"role": "assistant", "content": answer})
        else:
            self._messages.pop()

    def _stream(self) -> Iterator[str]:
        body = self._fields | {"messages": self._messages, "stream": True}
        with self._client.stream("POST", self._url, json=body) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise ConfigurationError(_error_message(response))
            for line in response.iter_lines():
                payload = line.removeprefix("data: ")
                if payload == line or payload == "[DONE]":
                    continue
                yield from _pieces(payload)

    def _complain(self, message: str) -> None:
        self._console.print(printable(message), style="red", markup=False)


def _pieces(payload: str) -> list[str]:
    """The texts in one event of the stream.

    Raises:
        ConfigurationError: it is an error, or not an event of a chat.
    """
    try:
        chunk = json.loads(payload)
        if "error" in chunk:
            raise ConfigurationError(str(chunk["error"]["message"]))
        return [str(choice["delta"].get("content") or "") for choice in chunk["choices"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"not an event of a chat: {payload[:80]}") from error


def _error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}"
