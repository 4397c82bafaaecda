"""The command line: `llmserve COMMAND`."""

from llmserve.cli.main import main

__all__ = ["main"]
