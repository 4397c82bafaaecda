"""`llmserve pull`: a download with a progress bar."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from llmserve.domain import LoadProgress
from llmserve.registry.hub import pull
from llmserve.registry.hub_source import hub_source
from llmserve.settings import Settings


def pull_with_progress(settings: Settings, hub_id: str, revision: str | None) -> None:
    """Download a repository, or a GGUF file of one, into the models folder and say where it is.

    Raises:
        ConfigurationError: it could not be downloaded; says why.
    """
    repository, gguf_file = hub_source(hub_id) or (hub_id, None)
    console = Console(stderr=True)
    columns = (TextColumn(hub_id), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(hub_id, total=1.0)

        def show(progress: LoadProgress) -> None:
            bar.update(task, completed=progress.fraction or 0.0)

        folder = pull(
            repository,
            settings.models_dir,
            revision=revision,
            gguf_file=gguf_file,
            endpoint=settings.hf_endpoint,
            token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            progress=show,
        )
        bar.update(task, completed=1.0)
    print(folder)
