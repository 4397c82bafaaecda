"""Errors of the ingress in the words of each route."""

from __future__ import annotations

import pytest

from llmserve.errors import WorkerGone
from llmserve.workers.ray.dialect import is_over, last_words, path_of, shape_of

ERROR = WorkerGone("it died")
NDJSON = "application/x-ndjson"
SSE = "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", {"error"}),
        ("/v1/messages", {"type", "error", "request_id"}),
        ("/api/chat", {"error"}),
        ("/generate_stream", {"error", "error_type"}),
    ],
)
def test_each_dialect_has_its_shape(path: str, form: set[str]) -> None:
    assert set(shape_of(path)(ERROR)) == form


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        ("/v1/chat/completions", b'data: {"error":{"message":"it died"'),
        ("/chat/completions", b'data: {"error":{"message":"it died"'),
        ("/v1/messages", b'event: error\ndata: {"type":"error"'),
        ("/generate", b'event: error\ndata: {"error":{"message":"it died"'),
        ("/stream", b'event: error\ndata: {"error":{"message":"it died"'),
        ("/generate_stream", b'data: {"error":"it died","error_type"'),
    ],
)
def test_the_last_event_of_a_stream(path: str, begins: bytes) -> None:
    words = last_words(path, SSE)
    assert words is not None
    assert words(ERROR).startswith(begins)
    assert words(ERROR).endswith(b"\n\n")


def test_the_last_line_of_ollamas_stream() -> None:
    words = last_words("/api/chat", "application/x-ndjson")
    assert words is not None
    assert words(ERROR) == b'{"error":"it died"}\n'


def test_a_body_that_is_no_stream_has_no_last_words() -> None:
    assert last_words("/generate", "application/json") is None


@pytest.mark.parametrize(
    ("content_type", "frame", "is_last"),
    [
        (SSE, b"", False),
        (SSE, b": accepted\n\n", False),
        (SSE, b'data: {"choices":[{"finish_reason":"stop"}]}\n\n', False),
        (SSE, b"data: [DONE]\n\n", True),
        (SSE, b'data: {"choices":[]}\n\ndata: [DONE]\n\n', True),
        (SSE, b'data: {"error":{"message":"it died"}}\n\n', True),
        (SSE, b'id: 1\nevent: token\ndata: {"text":"done"}\n\n', False),
        (SSE, b'id: 1\nevent: done\ndata: {"id":"1"}\n\n', True),
        (SSE, b'event: message_delta\ndata: {"type":"message_delta"}\n\n', False),
        (SSE, b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True),
        (SSE, b'event: response.output_text.done\ndata: {"type":"x"}\n\n', False),
        (SSE, b'event: response.incomplete\ndata: {"error":null}\n\n', True),
        (SSE, b'data: {"token":{},"generated_text":null}\n\n', False),
        (SSE, b'data: {"token":{},"generated_text":""}\n\n', True),
        (SSE, b"data: [1]\n\n", False),
        (NDJSON, b'{"response":"a","done":false}\n', False),
        (NDJSON, b'{"response":"","done":true}\n', True),
        (NDJSON, b'{"error":"it died"}\n', True),
        (NDJSON, b'{"respo', False),
    ],
)
def test_whether_a_stream_was_told_its_end(content_type: str, frame: bytes, is_last: bool) -> None:
    assert is_over(content_type, frame) is is_last


@pytest.mark.parametrize(
    ("root", "path"), [("", "/a"), ("/", "/a"), ("/p", "/p/a"), ("/p/", "/p/a")]
)
def test_a_path_is_below_the_applications_prefix(root: str, path: str) -> None:
    assert path_of({"type": "http", "root_path": root, "path": path}) == "/a"
