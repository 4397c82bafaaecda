"""What is measured: rates, seconds, workers, and the body of a request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

SIMULATED: Final = "simulated"
DEMO: Final = "demo"


@dataclass(frozen=True, slots=True)
class Load:
    """One open-loop load: requests for a model at a rate, whatever comes back."""

    model: str
    rate: float
    seconds: float
    max_tokens: int
    prompt: str

    @property
    def body(self) -> bytes:
        """The request, the same for both servers: greedy, and always `max_tokens` long."""
        return json.dumps(
            {
                "model": self.model,
                "prompt": self.prompt,
                "max_tokens": self.max_tokens,
                "temperature": 0.0,
                "ignore_eos": True,
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. The claim is the first load; at the second one neither side is overloaded.

    A smoke run shows that everything works, and claims nothing.
    """

    forward_seconds: float
    flask_workers: int
    llmserve_workers: int
    max_running: int
    timeout_seconds: float
    calibration_seconds: float
    simulated: Load
    demo: Load
    seed: int = 20
    is_smoke: bool = False


FULL: Final = Plan(
    forward_seconds=0.5,
    flask_workers=16,
    llmserve_workers=4,
    max_running=32,
    timeout_seconds=30.0,
    calibration_seconds=5.0,
    simulated=Load(SIMULATED, 200.0, 20.0, 1, "Is the model there?"),
    demo=Load(DEMO, 4.0, 20.0, 24, "Once upon a time"),
)

QUICK: Final = Plan(
    forward_seconds=0.05,
    flask_workers=2,
    llmserve_workers=1,
    max_running=8,
    timeout_seconds=5.0,
    calibration_seconds=0.5,
    simulated=Load(SIMULATED, 20.0, 1.0, 1, "Is the model there?"),
    demo=Load(DEMO, 4.0, 1.0, 4, "Once upon a time"),
    is_smoke=True,
)
