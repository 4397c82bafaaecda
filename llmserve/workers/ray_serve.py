"""llmserve on Ray Serve: `serve run llmserve.workers.ray_serve:app`, with the settings of the
environment and of llmserve.toml. Needs the extra `ray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmserve.errors import ConfigurationError
from llmserve.settings import load_settings

if TYPE_CHECKING:
    from ray.serve import Application


def app(arguments: dict[str, Any]) -> Application:
    """Ray calls it with a config file's `args`, or with what follows on the command line.

    Raises:
        ConfigurationError: Ray is not installed; an argument or a setting is wrong.
    """
    try:
        from llmserve.workers.ray.application import build
        from llmserve.workers.ray.arguments import Arguments
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ConfigurationError(
            "Ray Serve is not installed; pip install 'llmserve[ray]'"
        ) from error
    return build(load_settings().settings, Arguments.of(arguments))
