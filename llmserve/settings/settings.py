"""All settings, their defaults and meanings. Knows nothing of where values come from."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

from llmserve.settings.admission import AdmissionSettings
from llmserve.settings.bounds import BoundsSettings
from llmserve.settings.engine import EngineSettings
from llmserve.settings.jobs import JobsSettings
from llmserve.settings.keys import KeysSettings
from llmserve.settings.models import ModelsSettings
from llmserve.settings.observability import ObservabilitySettings
from llmserve.settings.responses import ResponsesSettings
from llmserve.settings.server import ServerSettings

ENV_PREFIX: Final = "LLMSERVE_"
GROUPS: Final[dict[str, type[BaseModel]]] = {
    "Server": ServerSettings,
    "Models": ModelsSettings,
    "Engine": EngineSettings,
    "Admission": AdmissionSettings,
    "Bounds": BoundsSettings,
    "Keys": KeysSettings,
    "Responses": ResponsesSettings,
    "Batches": JobsSettings,
    "Observability": ObservabilitySettings,
}
"""In the order in which documentation and commands show them."""


class Settings(
    ObservabilitySettings,
    JobsSettings,
    ResponsesSettings,
    KeysSettings,
    BoundsSettings,
    AdmissionSettings,
    EngineSettings,
    ModelsSettings,
    ServerSettings,
):
    """Everything that an operator can set; the documentation's tables are made from the fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    @model_validator(mode="after")
    def _reload_is_for_one(self) -> Self:
        if self.reload and self.workers > 1:
            raise ValueError("reload is for development with one worker; set workers to 1")
        return self

    @model_validator(mode="after")
    def _address_is_known(self) -> Self:
        if self.reload and self.port == 0 and self.address_file is not None:
            raise ValueError(
                "with reload it is unknown which free port is taken; set port, or leave "
                "address_file out"
            )
        return self

    @model_validator(mode="after")
    def _grpc_is_whole(self) -> Self:
        if (self.grpc_certfile is None) is not (self.grpc_keyfile is None):
            raise ValueError("grpc_certfile and grpc_keyfile belong together; set both")
        if self.grpc_client_ca_file is not None and self.grpc_certfile is None:
            raise ValueError("grpc_client_ca_file is for TLS; set grpc_certfile and grpc_keyfile")
        if self.grpc_port and self.grpc_port == self.port:
            raise ValueError("port and grpc_port are the same; HTTP and gRPC need one each")
        return self

    @model_validator(mode="after")
    def _something_to_serve(self) -> Self:
        if not self.models and not self.models_on_demand:
            raise ValueError("models and models_on_demand are empty; name at least one model")
        return self

    @model_validator(mode="after")
    def _batches_have_all_they_need(self) -> Self:
        if self.queue_url is not None and self.jobs_dir is None:
            raise ValueError("queue_url is the queue of batches; set jobs_dir for their files")
        if self.webhook_urls and self.webhook_secret is None:
            raise ValueError("webhook_urls are called with a signature; set webhook_secret")
        return self
