"""Commands that work with this machine's settings: `llmserve serve | generate | models | config |
pull`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llmserve.cli.flags import with_settings
from llmserve.errors import ConfigurationError
from llmserve.settings import LoadedSettings, Settings, settings_table, shown

if TYPE_CHECKING:
    from llmserve.domain import ModelSpec

ONE_MODEL: Final = frozenset({
    "models_dir", "dtype", "trust_remote_code", "parse_special_tokens", "hf_endpoint", "engine",
    "device", "require_gpu", "max_tokens_per_step", "kv_cache_bytes", "torch_threads",
    "torch_compile", "cache_dir",
})  # fmt: skip
"""Settings that matter where one model answers one prompt."""

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Names under models/, paths or hub ids."),
]


@with_settings(without=frozenset({"models"}))
def serve(loaded: LoadedSettings, models: Models = None) -> None:
    """Serve models over HTTP and WebSocket."""
    from llmserve.admission.key_file import KeyFile
    from llmserve.cli.main import STARTED_AT
    from llmserve.registry.catalog import Catalog
    from llmserve.registry.references import check_keys, check_settings, names_of
    from llmserve.storage.database import check_store
    from llmserve.workers.serve import serve

    # A model that does not exist is reported here, in one line, not in a worker's traceback.
    def checked(settings: Settings) -> tuple[list[ModelSpec], list[ModelSpec]]:
        catalog = Catalog.from_settings(settings)
        specs = catalog.resolve_all(settings.models)
        on_demand = catalog.served_on_demand(settings, specs)
        check_settings(settings, names_of((*specs, *on_demand)))
        return specs, on_demand

    def read_again() -> Settings:
        fresh = loaded.again().settings
        checked(fresh)
        return fresh

    specs, on_demand = checked(loaded.settings)
    # Only at start: keys that change later may be for models that an operator has loaded since.
    if loaded.settings.keys_file is not None:
        served = names_of((*specs, *on_demand))
        check_keys(KeyFile(loaded.settings.keys_file), served, time.time())
    if loaded.settings.responses_store is not None:
        check_store(loaded.settings.responses_store)
    if loaded.settings.jobs_dir is not None:
        from llmserve.jobs.check import check_jobs

        url = loaded.settings.queue_url
        check_jobs(loaded.settings.jobs_dir, None if url is None else url.get_secret_value())
    sys.exit(
        serve(
            loaded.settings,
            specs,
            on_demand=on_demand,
            read_settings=read_again,
            started_at=STARTED_AT,
        )
    )


@with_settings(only=ONE_MODEL, without=frozenset({"models"}))
def generate(
    loaded: LoadedSettings,
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from stdin.")],
    models: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="The model to load.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most this many new tokens.")] = 50,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling reproducible.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this string.")] = None,
) -> None:
    """Load a model and continue one prompt on stdout, token by token."""
    from llmserve.cli.once import generate_once
    from llmserve.domain import SamplingFields

    sampling = SamplingFields(
        max_tokens=max_tokens, temperature=temperature, seed=seed, stop=tuple(stop or ()) or None
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    generate_once(loaded.settings, text, sampling, sys.stdout)


@with_settings(only=frozenset({"models_dir"}))
def models(loaded: LoadedSettings) -> None:
    """List the models under models/, and their adapters."""
    from rich.console import Console
    from rich.table import Table

    from llmserve.engines.adapters.stored import problem_of, stored_bytes
    from llmserve.registry.catalog import Catalog

    catalog = Catalog.from_settings(loaded.settings)
    table = Table("name", "aliases", "weights", "dtype", "device", "engine", box=None)
    broken = []
    for name in catalog.names():
        try:
            spec = catalog.resolve(name)
        except ConfigurationError as error:
            broken.append(error.message)
            continue
        there = ", ".join(spec.remote.urls) if spec.remote is not None else None
        source = there or spec.hub_id or _size(spec.path, spec.gguf_file)
        table.add_row(
            name, ", ".join(spec.aliases), source, spec.dtype, spec.device, spec.engine.value
        )
        for adapter in spec.adapters:
            own, *others = adapter.served_names(spec.names)
            weights = adapter.hub_id or f"{stored_bytes(adapter) / 2**20:,.1f} MiB"
            table.add_row(f"  {own}", ", ".join(others), weights)
            problem = problem_of(adapter)
            if problem is not None:
                broken.append(f"{own} cannot be served: {problem}")
    Console().print(table)
    if broken:
        raise ConfigurationError("; ".join(broken))


@with_settings()
def config(
    loaded: LoadedSettings,
    table: Annotated[
        bool, typer.Option("--table", help="Print Markdown tables of all settings instead.")
    ] = False,
) -> None:
    """Show the effective settings and where each comes from."""
    from rich.console import Console
    from rich.table import Table

    if table:
        print(settings_table(), end="")
        return
    rows = Table("setting", "value", "from", box=None)
    for name in Settings.model_fields:
        rows.add_row(name, shown(getattr(loaded.settings, name)), loaded.origins[name])
    # Wide enough not to wrap lines in a pipe.
    Console(width=None if sys.stdout.isatty() else 200).print(rows)


@with_settings(only=frozenset({"models_dir", "hf_endpoint"}))
def pull(
    loaded: LoadedSettings,
    hub_id: Annotated[
        str,
        typer.Argument(metavar="HUB_ID", help="Such as org/name, or org/name/file.gguf."),
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Download a model from the hub into models/."""
    from llmserve.cli.pulling import pull_with_progress

    pull_with_progress(loaded.settings, hub_id, revision)


def _size(path: Path | None, gguf_file: str | None) -> str:
    from llmserve.engines.weights.footprint import stored_bytes

    total = stored_bytes(path, gguf_file) if path is not None else 0
    return f"{total / 2**20:,.1f} MiB" if total else "missing"
