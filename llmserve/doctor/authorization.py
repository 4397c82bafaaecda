"""Does the server accept the key, and does the proxy pass it on?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import describe, error_message, printable
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.target import Target

NAME: Final = "authorization"
MODELS: Final = "/v1/models"
DENIED: Final = frozenset({401, 403})
PASS_KEY: Final = (
    (
        "nginx: remove `proxy_set_header Authorization ...;` and `auth_basic`, which uses that "
        "header itself"
    ),
    "HAProxy: remove `http-request del-header Authorization` and `http-request auth`",
    "ingress-nginx: remove the annotations nginx.ingress.kubernetes.io/auth-type and auth-url",
)


async def check_authorization(client: httpx.AsyncClient, target: Target) -> Finding:
    """Ask for /v1/models, with the key and without."""
    response = await client.get(MODELS)
    if response.status_code in DENIED:
        return await _denied(client, target, response)
    models = _models(response)
    if models is None:
        return Finding(
            NAME,
            Verdict.PROBLEM,
            f"{MODELS} answers {describe(response)}",
            ("check that the URL is llmserve's, and that the proxy passes /v1 to it",),
        )
    if target.model is not None and target.model not in models:
        return Finding(
            NAME,
            Verdict.PROBLEM,
            f"{target.model!r} is not among the models: {printable(', '.join(models))}",
            ("name one of them with --model, or serve that one",),
        )
    seen = f"{MODELS} is answered: {printable(', '.join(models))}"
    if target.api_key is not None:
        bare = await _without_key(client)
        seen += "; no key is needed" if bare.is_success else "; the key arrives and is needed"
    return Finding(NAME, Verdict.OK, seen)


async def _denied(client: httpx.AsyncClient, target: Target, response: httpx.Response) -> Finding:
    seen = f"{MODELS} answers {describe(response)}"
    message = error_message(response)
    if message is None:
        return Finding(
            NAME, Verdict.PROBLEM, f"{seen}, which does not come from the server", PASS_KEY
        )
    if target.api_key is None:
        return Finding(NAME, Verdict.PROBLEM, seen, ("give a key with --api-key",))
    if error_message(await _without_key(client)) == message:
        # The server's messages for a missing and for a wrong key differ.
        return Finding(
            NAME, Verdict.PROBLEM, f"{seen}: with a key the same as without one", PASS_KEY
        )
    return Finding(NAME, Verdict.PROBLEM, seen, ("give a key that this server accepts",))


async def _without_key(client: httpx.AsyncClient) -> httpx.Response:
    request = client.build_request("GET", MODELS)
    request.headers.pop("authorization", None)
    return await client.send(request)


def _models(response: httpx.Response) -> list[str] | None:
    """Names and aliases of the models; `None` if the answer is something else."""
    try:
        data = response.json()["data"]
        return [
            str(name) for model in data for name in (model["id"], *(model.get("aliases") or ()))
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
