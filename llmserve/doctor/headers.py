"""Do the headers that matter for streams and logs arrive?"""

from __future__ import annotations

from typing import Final

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.token_stream import REQUEST_ID, Recording

STREAM: Final = "stream headers"
ID: Final = "request id"
UNCACHED: Final = ("no-store", "no-cache")


def judge_headers(recording: Recording) -> Finding:
    """What a stream's own headers say."""
    headers = recording.headers
    kind = printable(headers.get("content-type", "none"))
    cache = printable(headers.get("cache-control", "none"))
    buffering = printable(headers.get("x-accel-buffering", "none"))
    seen = f"content-type {kind}, cache-control {cache}, "
    seen += (
        "X-Accel-Buffering removed by a proxy that supports it"
        if buffering == "none"
        else f"X-Accel-Buffering {buffering} (no nginx removed it)"
    )
    figures = {"content_type": kind, "cache_control": cache, "x_accel_buffering": buffering}
    if not kind.startswith("text/event-stream"):
        rewritten = ("browsers refuse this as an EventSource: find what rewrites Content-Type",)
        return Finding(STREAM, Verdict.PROBLEM, seen, rewritten, figures)
    if not any(word in cache for word in UNCACHED):
        change = (
            (
                "nginx: remove `proxy_hide_header Cache-Control;` and `expires ...;` from this "
                "location, and have no `proxy_cache` in it"
            ),
            "HAProxy: remove `http-response set-header Cache-Control`",
        )
        return Finding(STREAM, Verdict.WARNING, seen, change, figures)
    return Finding(STREAM, Verdict.OK, seen, figures=figures)


def judge_request_id(recording: Recording, sent: str) -> Finding:
    """Whether a client's X-Request-ID makes the round trip."""
    got = recording.headers.get(REQUEST_ID)
    if got == sent:
        return Finding(ID, Verdict.OK, f"{REQUEST_ID} comes back as it was sent")
    if got is None:
        return Finding(
            ID,
            Verdict.WARNING,
            f"{REQUEST_ID} is removed from answers: requests cannot be found in the log",
            (
                f"nginx: remove `proxy_hide_header {REQUEST_ID};`",
                f"HAProxy: remove `http-response del-header {REQUEST_ID}`",
            ),
        )
    return Finding(
        ID,
        Verdict.WARNING,
        f"{REQUEST_ID} comes back as {printable(got)!r}: a client's own id is lost",
        (
            f"nginx: `proxy_set_header {REQUEST_ID} $http_x_request_id;` instead of $request_id",
            (
                f"HAProxy: `http-request set-header {REQUEST_ID} %[uuid()] unless {{ "
                "req.hdr(x-request-id) -m found }`"
            ),
        ),
    )
