"""Does the server itself complain of its models? A template that loses words, say, or a GPU that is
not used."""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Finding, Verdict

NAME: Final = "models"
MAX_TOLD: Final = 10


async def check_models(client: httpx.AsyncClient) -> Finding:
    """Read the warnings that stand beside the models in `/health/ready`."""
    response = await client.get("/health/ready")
    try:
        models = response.json().get("models", [])
        told = [f"{model['name']}: {warning}" for model in models
                for warning in model.get("warnings", ())]  # fmt: skip
    except (ValueError, AttributeError, KeyError, TypeError):
        return Finding(NAME, Verdict.SKIPPED, "/health/ready lists no models")
    if not told:
        return Finding(NAME, Verdict.OK, "the server complains of none")
    seen = f"the server complains: {printable(told[0])}"
    more = tuple(printable(complaint) for complaint in told[1:MAX_TOLD])
    return Finding(NAME, Verdict.WARNING, seen, more, {"warnings": len(told)})
