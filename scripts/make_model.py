#!/usr/bin/env python3
"""Makes a model with a real architecture, random weights and a small real tokenizer.

For tests and benchmarks without a download: `make_model.py --preset tiny-llama --out models/tiny`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Loaded from a file path (a test's importlib), the script's folder is not on the path yet.
if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

import torch
from random_models.folder import FolderOccupied, claim, open_to_readers, size_bytes
from random_models.presets import PRESETS, Preset, UnknownPreset, find_preset
from random_models.tokenizer import build_tokenizer
from random_models.weights import count_parameters, meta_model, random_model, write_shards
from transformers import PretrainedConfig
from transformers.utils import logging as transformers_logging

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def make_model(
    preset: str, out: Path, seed: int = 0, dtype: str | None = None, *, force: bool = False
) -> None:
    """Write config, weights, tokenizer and generation defaults of a preset to `out`.

    The same preset, seed and dtype give the same bytes. Prints one line when done.

    Args:
        preset: a name from `--list`.
        out: folder to write to; an earlier random model in it is replaced.
        seed: chooses the weights.
        dtype: "bfloat16" or "float32"; None takes the preset's own.
        force: write into a folder that holds other files too.

    Raises:
        UnknownPreset: if there is no such preset.
        FolderOccupied: if `out` holds something else and `force` is off.
    """
    started = time.perf_counter()
    chosen = find_preset(preset)
    dtype = dtype or chosen.dtype
    config = chosen.config()
    num_parameters = count_parameters(meta_model(config))
    facts = {
        "preset": chosen.name,
        "seed": seed,
        "dtype": dtype,
        "parameters": num_parameters,
    }
    claim(out, facts, force=force)
    build_tokenizer(config.vocab_size, config.max_position_embeddings).save_pretrained(out)
    _write_weights(chosen, config, out, seed, DTYPES[dtype])
    chosen.generation_config().save_pretrained(out)
    open_to_readers(out)
    print(
        f"{chosen.name}: {num_parameters:,} parameters, {size_bytes(out):,} bytes, "
        f"{time.perf_counter() - started:.1f} seconds -> {out}",
        flush=True,
    )


def list_presets() -> None:
    """Print every preset with its parameter count; nothing is allocated."""
    print(f"{'preset':<18}{'type':<14}{'layers':>6}{'hidden':>8}{'vocab':>9}{'parameters':>16}")
    for preset in PRESETS.values():
        config = preset.config()
        num_parameters = count_parameters(meta_model(config))
        print(
            f"{preset.name:<18}{preset.model_type:<14}{config.num_hidden_layers:>6}"
            f"{config.hidden_size:>8}{config.vocab_size:>9}{num_parameters:>16,}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", help="what to make")
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="chooses the weights (default 0)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: the preset's own")
    parser.add_argument("--force", action="store_true", help="write into a folder of other files")
    parser.add_argument("--list", action="store_true", help="print the presets and leave")
    args = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    if args.list:
        list_presets()
        return 0
    if args.preset is None or args.out is None:
        parser.error("--preset and --out are needed (or --list)")
    try:
        make_model(args.preset, args.out, args.seed, args.dtype, force=args.force)
    except (UnknownPreset, FolderOccupied) as error:
        parser.error(str(error))
    return 0


def _write_weights(
    preset: Preset, config: PretrainedConfig, out: Path, seed: int, dtype: torch.dtype
) -> None:
    """Write weights and config: a miniature as transformers saves it, a large model in shards."""
    if preset.is_tiny:
        model = random_model(config, seed, preset.embedding_scale)
        model.to(dtype).save_pretrained(out)
        return
    model = meta_model(config)
    write_shards(model, out, seed, dtype)
    # The config comes last: without it a half-written folder is not taken for a model.
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype
    model.config.save_pretrained(out)


if __name__ == "__main__":
    sys.exit(main())
