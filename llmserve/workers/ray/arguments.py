"""What `serve run` and a config file's `args` may say beside the settings."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmserve.errors import ConfigurationError


class Arguments(BaseModel):
    """For every model's deployment; a config file's `deployments` says what differs for one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_replicas: int = Field(1, ge=1)
    autoscaling_config: dict[str, Any] | None = None
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: int | None = Field(None, ge=0)
    ingress_replicas: int = Field(1, ge=1)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """The arguments that Ray passes on.

        Raises:
            ConfigurationError: one is unknown or out of range; the message names it.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(map(str, problem["loc"]))
            known = ", ".join(cls.model_fields)
            raise ConfigurationError(
                f"argument {name!r} of the Ray application: {problem['msg']}; there are {known}"
            ) from None
