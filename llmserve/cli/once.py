"""`llmserve generate`: one prompt through the whole service, without a server."""

from __future__ import annotations

import asyncio
from typing import TextIO

from llmserve import bootstrap
from llmserve.domain import Caller, Delta, Failed, GenerationRequest, SamplingFields
from llmserve.observability.logs import configure_logging
from llmserve.settings import Settings


def generate_once(settings: Settings, prompt: str, sampling: SamplingFields, out: TextIO) -> None:
    """Load the first model of the settings, and an adapter if one is named, and write its
    continuation as it comes.

    Raises:
        LLMServeError: the model cannot be loaded or the prompt cannot be served.
    """
    configure_logging(settings.log_format, "WARNING")
    # Settings that name a server's other models do not apply here.
    settings = settings.model_copy(update={"default_model": None, "pinned_models": ()})
    asyncio.run(_generate(settings, prompt, sampling, out))


async def _generate(settings: Settings, prompt: str, sampling: SamplingFields, out: TextIO) -> None:
    directory = bootstrap.hold_run_directory(settings)
    metrics = bootstrap.build_metrics(settings, directory)
    async with bootstrap.run(settings, metrics, directory) as container:
        await container.loader.loaded()
        everything = container.registry.everything
        named = (one.name for one in everything if one.adapter and one.adapter.is_initial)
        model = next(named, None)
        request = GenerationRequest(id="cli", prompt=prompt, model=model, sampling=sampling)
        async with container.service.open(request, Caller("cli")) as generation:
            async for event in generation.events():
                match event:
                    case Delta(text, _):
                        out.write(text)
                        out.flush()
                    case Failed(error, _):
                        raise error
        out.write("\n")
