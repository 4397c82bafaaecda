"""A client that reads one stream in a thread of its own."""

from __future__ import annotations

import threading

import httpx
from server import Server

BODY = {"prompt": "Once upon a time", "ignore_eos": True, "temperature": 0, "stream": True}


class Reader(threading.Thread):
    """Reads one stream to its end. `begun` is set at its first token."""

    def __init__(self, server: Server, **fields: object) -> None:
        super().__init__()
        self._url = server.url + "/generate"
        self._body = BODY | fields
        self.begun = threading.Event()
        self.lines: list[str] = []

    def run(self) -> None:
        with httpx.stream("POST", self._url, json=self._body, timeout=60) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                if line.startswith('data: {"token"'):
                    self.begun.set()

    @property
    def terminals(self) -> list[str]:
        return [line for line in self.lines if line.startswith("event: ")]
