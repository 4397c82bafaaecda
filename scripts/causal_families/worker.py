"""Tries families one after the other, in a process that may use so much memory and no more: names
on its command line, a line of JSON for each on stdout."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
import transformers
from loguru import logger

from causal_families.attempt import attempt
from causal_families.launches import launches_per_layer
from causal_families.names import VARIANT
from causal_families.small_config import small_config

MEMORY_BYTES: Final = 8 << 30


def main() -> None:
    """Try what is on the command line."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logger.remove()
    # Whatever else prints goes elsewhere.
    with os.fdopen(os.dup(1), "w") as told:
        os.dup2(2, 1)
        for family in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as folder:
                outcome = attempt(family, Path(folder))
            if outcome.engine != "none" and VARIANT not in family:
                outcome = replace(outcome, launches=launches_per_layer(small_config(family)))
            print(json.dumps(outcome.values), file=told, flush=True)


if __name__ == "__main__":
    main()
