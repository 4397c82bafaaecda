"""Do errors arrive in the shape that clients expect?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import describe, error_message
from llmserve.doctor.finding import Finding, Verdict

NAME: Final = "error shape"
NOWHERE: Final = "/v1/models/asked-by-llmserve-doctor"


async def check_error_shape(client: httpx.AsyncClient) -> Finding:
    """Ask for a model that does not exist."""
    response = await client.get(NOWHERE)
    message = error_message(response)
    if message is not None and response.is_client_error:
        seen = f"a {response.status_code} is the server's JSON error object"
        return Finding(NAME, Verdict.OK, seen)
    return Finding(
        NAME,
        Verdict.PROBLEM,
        f"an unknown model is answered {describe(response)}, not with a JSON error object",
        (
            "nginx: `proxy_intercept_errors off;` and no `error_page` for what llmserve answers",
            "HAProxy: remove `http-response return` and `http-error` for 4xx",
            "ingress-nginx: remove nginx.ingress.kubernetes.io/custom-http-errors",
        ),
    )
