"""Is a stream compressed, which delays tokens, and is long JSON compressed?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Figure, Finding, Verdict
from llmserve.doctor.token_stream import Recording

ENCODINGS: Final = "gzip, br"
LONG_BYTES: Final = 1024
EVENTS_PER_PART: Final = 4
"""More than a fast server sends at once."""

STREAM: Final = "compressed stream"
JSON: Final = "compressed JSON"
LEAVE_ALONE: Final = (
    (
        "nginx: leave `text/event-stream` (and `*`) out of `gzip_types`, or `gzip off;` for this "
        "location"
    ),
    "HAProxy: leave `text/event-stream` out of `compression type`",
    (
        "ingress-nginx: leave it out of `gzip-types` and `brotli-types` of the ConfigMap, or "
        '`use-gzip: "false"`'
    ),
)


def judge_stream(recording: Recording) -> Finding:
    """Judge a stream whose client accepts compressed answers."""
    encoding = recording.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return Finding(STREAM, Verdict.OK, f"asked with `{ENCODINGS}`, streams stay as they are")
    num_parts = len(recording.arrivals)
    seen = f"text/event-stream comes as {printable(encoding)}: "
    seen += (
        f"{recording.num_events} events are held back (reads: {num_parts})"
        if recording.num_events > EVENTS_PER_PART * num_parts
        else "it takes more bytes than it saves, and holds tokens back wherever it is not flushed"
    )
    figures: dict[str, Figure] = {
        "content_encoding": printable(encoding),
        "events": recording.num_events,
        "parts": num_parts,
    }
    return Finding(STREAM, Verdict.PROBLEM, seen, LEAVE_ALONE, figures)


async def check_json(client: httpx.AsyncClient) -> Finding:
    """Get the longest JSON that needs no key; compressing it is good but not necessary."""
    headers = {"Accept-Encoding": ENCODINGS}
    async with client.stream("GET", "/openapi.json", headers=headers) as response:
        num_bytes = sum([len(part) async for part in response.aiter_raw()])
    encoding = printable(response.headers.get("content-encoding", "identity"))
    figures: dict[str, Figure] = {"bytes": num_bytes, "content_encoding": encoding}
    if not response.is_success or (encoding == "identity" and num_bytes <= LONG_BYTES):
        seen = f"/openapi.json answers {response.status_code}: no long JSON to look at"
        return Finding(JSON, Verdict.SKIPPED, seen, figures=figures)
    if encoding != "identity":
        return Finding(JSON, Verdict.OK, f"long JSON comes as {encoding}", figures=figures)
    return Finding(
        JSON,
        Verdict.OK,
        f"{num_bytes:,} bytes of JSON come uncompressed: harmless, but slow on thin lines",
        (
            (
                "nginx: remove `proxy_set_header Accept-Encoding ...;`, or set "
                "`gzip_types application/json;`"
            ),
        ),
        figures,
    )
