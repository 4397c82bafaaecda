"""The only place where objects are wired; what it builds it tears down, in reverse."""

from llmserve.bootstrap.container import Container
from llmserve.bootstrap.fleet import hold_run_directory
from llmserve.bootstrap.server import run
from llmserve.bootstrap.service import build_metrics

__all__ = ["Container", "build_metrics", "hold_run_directory", "run"]
