"""Does the server itself report problems with its models, such as an unusable chat template or an
unused GPU?"""

from __future__ import annotations

from typing import Final

import httpx

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Finding, Verdict

NAME: Final = "models"
MAX_LISTED: Final = 10


async def check_models(client: httpx.AsyncClient) -> Finding:
    """Read the models' warnings in `/health/ready`."""
    response = await client.get("/health/ready")
    try:
        models = response.json().get("models", [])
        warnings = [f"{model['name']}: {warning}" for model in models
                    for warning in model.get("warnings", ())]  # fmt: skip
    except (ValueError, AttributeError, KeyError, TypeError):
        return Finding(NAME, Verdict.SKIPPED, "/health/ready lists no models")
    if not warnings:
        return Finding(NAME, Verdict.OK, "the server reports no problems with them")
    seen = f"the server warns: {printable(warnings[0])}"
    more = tuple(printable(warning) for warning in warnings[1:MAX_LISTED])
    return Finding(NAME, Verdict.WARNING, seen, more, {"warnings": len(warnings)})
