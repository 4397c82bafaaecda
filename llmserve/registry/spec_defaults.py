"""What the server's settings say of all models, where a model's manifest says nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.weights.purpose import purposes_of
from llmserve.settings import Settings


@dataclass(frozen=True, slots=True)
class SpecDefaults:
    """A manifest overrides them, but for `parse_special_tokens` and `require_gpu`."""

    device: str = "auto"
    dtype: str = "auto"
    engine: EngineKind = EngineKind.AUTO
    quantize: str = "none"
    dequantize: bool = False
    trust_remote_code: bool = False
    parse_special_tokens: bool = False
    require_gpu: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Those of a server with these settings."""
        return cls(
            device=settings.device,
            dtype=settings.dtype,
            engine=EngineKind(settings.engine),
            quantize=settings.quantize,
            dequantize=settings.dequantize,
            trust_remote_code=settings.trust_remote_code,
            parse_special_tokens=settings.parse_special_tokens,
            require_gpu=settings.require_gpu,
        )

    def applied_to(self, spec: ModelSpec, argument: str) -> ModelSpec:
        """The spec that an operator named by this argument, complete."""
        spec = replace(
            spec,
            argument=argument,
            device=self.device if spec.device == "auto" else spec.device,
            dtype=self.dtype if spec.dtype == "auto" else spec.dtype,
            parse_special_tokens=self.parse_special_tokens,
            require_gpu=self.require_gpu,
        )
        # How tokens are made, and what of; a model that encodes makes none.
        if spec.remote is not None or purposes_of(spec):
            return spec
        return replace(
            spec,
            engine=self.engine if spec.engine is EngineKind.AUTO else spec.engine,
            quantize=self.quantize if spec.quantize is None else spec.quantize,
            dequantize=self.dequantize if spec.dequantize is None else spec.dequantize,
        )
