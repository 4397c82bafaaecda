"""What a command does with a server that does not answer, or refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx

from llmserve.errors import ConfigurationError, ServerUnreachable


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what httpx raises, and what an answer of another server causes, into our error."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnreachable(f"{url}: {error or type(error).__name__}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServerUnreachable(
            f"{url}: what answers there is not llmserve, or of another version"
        ) from error


def check(response: httpx.Response) -> None:
    """Raises: ConfigurationError: the server refuses; says why."""
    if response.status_code == httpx.codes.OK:
        return
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {response.status_code}"
    raise ConfigurationError(message)
