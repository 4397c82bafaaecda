"""What a server or a proxy answered, in a form that can be shown and judged."""

from __future__ import annotations

import re
from typing import Final

import httpx

from llmserve.doctor.finding import Finding, Verdict

MAX_SHOWN: Final = 120
TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
BUSY: Final = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})


class Refused(Exception):
    """An answer that ends a check before it could measure anything."""

    def __init__(self, status: int, words: str, *, is_ours: bool) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.is_ours = is_ours

    @classmethod
    def by(cls, response: httpx.Response) -> Refused:
        """The refusal in a response whose body was read."""
        return cls(
            response.status_code, describe(response), is_ours=error_message(response) is not None
        )

    def finding(self, name: str) -> Finding:
        """Skipped if the server is busy; anything else is a problem."""
        if self.is_ours and self.status in BUSY:
            later = ("run the doctor again when the server has room",)
            return Finding(name, Verdict.SKIPPED, f"the server is busy: {self.words}", later)
        if self.is_ours:
            return Finding(name, Verdict.PROBLEM, f"the server refused: {self.words}")
        return Finding(
            name,
            Verdict.PROBLEM,
            f"something in front of the server, or not llmserve, answered {self.words}",
            ("check that the proxy passes this path to llmserve, and that llmserve runs",),
        )


def error_message(response: httpx.Response) -> str | None:
    """The message in OpenAI's error shape; `None` if the body has another shape."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None


def describe(response: httpx.Response) -> str:
    """The status and the gist of the body, on one line."""
    message = error_message(response)
    if message is None:
        title = TITLE.search(response.text)
        message = title.group(1) if title else response.text
    # nginx repeats the status in its page's title.
    words = printable(message).removeprefix(str(response.status_code))
    return f"{response.status_code} {words.strip()}".strip()


def printable(text: str) -> str:
    """Untrusted text on one short line, without control characters."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_SHOWN])
    line = " ".join(line.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."
