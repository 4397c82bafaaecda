"""Does the body of a long prompt arrive?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import describe, error_message, printable
from llmserve.doctor.finding import Finding, Verdict

NAME: Final = "request size"
NUM_BYTES: Final = 2**20 + 2**16
"""A little more than nginx's default limit."""

ALLOW: Final = (
    "nginx: `client_max_body_size 4m;`, the server's own max_body_bytes",
    "HAProxy: remove the `http-request deny` on req.body_size or content-length",
    'ingress-nginx: nginx.ingress.kubernetes.io/proxy-body-size: "4m"',
)


async def check_body_size(client: httpx.AsyncClient) -> Finding:
    """Send a long body that the server refuses before it tokenizes anything.

    The server refuses the field `suffix`, which it knows but does not support; an unknown field it
    would ignore.
    """
    body = {"prompt": "x", "max_tokens": 1, "suffix": "x" * NUM_BYTES}
    size = f"{NUM_BYTES / 2**20:.2f} MiB"
    figures = {"bytes": NUM_BYTES}
    try:
        response = await client.post("/generate", json=body)
    except httpx.TransportError as error:
        seen = f"a body of {size} is cut off: {printable(str(error)) or type(error).__name__}"
        return Finding(NAME, Verdict.PROBLEM, seen, ALLOW, figures)
    is_ours = error_message(response) is not None
    if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        if is_ours:
            seen = f"a body of {size} is over the server's own limit"
            change = ("long prompts: raise max_body_bytes",)
            return Finding(NAME, Verdict.WARNING, seen, change, figures)
        seen = f"the proxy refuses a body of {size} in its own words: {describe(response)}"
        return Finding(NAME, Verdict.PROBLEM, seen, ALLOW, figures)
    if is_ours:
        return Finding(NAME, Verdict.OK, f"a body of {size} comes through", figures=figures)
    seen = f"a body of {size} is answered {describe(response)}, which is not from the server"
    return Finding(NAME, Verdict.PROBLEM, seen, ALLOW, figures)
