"""Do tokens arrive as they are generated, or does something buffer them?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.finding import Figure, Finding, Verdict
from llmserve.doctor.pace import Flow, Pace, measure
from llmserve.doctor.target import Target
from llmserve.doctor.token_stream import Recording, record

NAME: Final = "token arrival"
SIZES: Final = (64, 256, 1024)
"""Tokens to ask for: more if a stream ended too soon, or to confirm a suspected problem."""

UNBUFFER: Final = (
    (
        "nginx: `proxy_buffering off;` and no `proxy_ignore_headers X-Accel-Buffering;` "
        "(llmserve asks for no buffering by that header)"
    ),
    "HAProxy: `option http-no-delay`, no `compression type text/event-stream`",
    'ingress-nginx: nginx.ingress.kubernetes.io/proxy-buffering: "off"',
)
KEEP_OPEN: Final = (
    "nginx: `proxy_read_timeout 600s;` and `proxy_send_timeout 600s;`",
    "HAProxy: `timeout server 600s` and `timeout client 600s`",
    (
        "ingress-nginx: nginx.ingress.kubernetes.io/proxy-read-timeout and proxy-send-timeout: "
        '"600"; a cloud load balancer: its idle timeout'
    ),
)


async def check_arrival(
    client: httpx.AsyncClient, target: Target, latency_seconds: float
) -> Finding:
    """Stream, look at the arrival times, and repeat it before reporting a problem.

    Raises:
        Refused: the server does not generate now.
    """
    flows: list[Flow] = []
    for max_tokens in SIZES:
        recording = await record(client, target, max_tokens)
        if recording.cut is not None or not recording.arrivals:
            return _cut(recording)
        pace = measure(recording.arrivals, recording.num_events)
        flows.append(pace.flow(latency_seconds))
        if flows[-1] is Flow.STEADY or (len(flows) > 1 and flows[-1] is not Flow.TOO_FAST):
            break
    return _judge(pace, flows, _figures(pace, recording, max_tokens))


def _judge(pace: Pace, flows: list[Flow], figures: dict[str, Figure]) -> Finding:
    apart = figures["keep_alive_seconds"]
    seen = (
        f"{pace.num_events} events in {pace.num_bursts} reads over "
        f"{1000 * pace.spread_seconds:.0f} ms, the first byte after "
        f"{1000 * pace.first_seconds:.0f} ms, the largest gap "
        f"{1000 * pace.largest_gap_seconds:.0f} ms"
    )
    if apart is not None:
        seen += f", keep-alive comments {apart} s apart"
    if flows[0] is Flow.TOO_FAST:
        seen += f" (a shorter stream, of {SIZES[0]} tokens, ended too soon to judge)"
    match flows[-1]:
        case Flow.STEADY:
            return Finding(NAME, Verdict.OK, seen, figures=figures)
        case Flow.AT_THE_END:
            seen = f"{pace.share_at_end:.0%} arrived in one lump at the end: {seen}"
            return Finding(NAME, Verdict.PROBLEM, seen, UNBUFFER, figures)
        case Flow.LUMPS:
            seen = (
                f"lumps of about {pace.typical_lump_events:.0f} tokens every "
                f"{pace.typical_pause_seconds:.1f} s: {seen}"
            )
            return Finding(NAME, Verdict.PROBLEM, seen, UNBUFFER, figures)
        case Flow.TOO_FAST:
            again = ("run the doctor against a slower model, or one with a longer context",)
            return Finding(
                NAME, Verdict.SKIPPED, f"ended too soon to judge: {seen}", again, figures
            )


def _figures(pace: Pace, recording: Recording, max_tokens: int) -> dict[str, Figure]:
    return {
        "max_tokens": max_tokens,
        "events": pace.num_events,
        "reads": pace.num_bursts,
        "bytes": sum(arrival.num_bytes for arrival in recording.arrivals),
        "first_byte_ms": round(1000 * pace.first_seconds, 1),
        "spread_ms": round(1000 * pace.spread_seconds, 1),
        "largest_gap_ms": round(1000 * pace.largest_gap_seconds, 1),
        "share_at_end": round(pace.share_at_end, 3),
        "events_per_lump": round(pace.typical_lump_events, 1),
        "keep_alive_seconds": _apart(recording),
    }


def _apart(recording: Recording) -> float | None:
    apart = recording.keep_alive_seconds
    return None if apart is None else round(apart, 1)


def _cut(recording: Recording) -> Finding:
    figures: dict[str, Figure] = {
        "seconds": round(recording.seconds, 2),
        "events": recording.num_events,
        "keep_alive_seconds": _apart(recording),
    }
    quiet = recording.seconds - (recording.arrivals[-1].seconds if recording.arrivals else 0.0)
    seen = (
        f"the stream was cut after {recording.seconds:.1f} s and {recording.num_events} events, "
        f"{quiet:.1f} s of them silent at the end: {recording.cut}"
    )
    return Finding(NAME, Verdict.PROBLEM, seen, KEEP_OPEN, figures)
