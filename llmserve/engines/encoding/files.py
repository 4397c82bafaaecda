"""What a model's folder says of how its embeddings are made. Knows no torch.

The layout is sentence-transformers': `modules.json` names what is computed one after another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from llmserve.domain import EncodingSpec
from llmserve.engines.encoding.unsupported import UnsupportedEncoder
from llmserve.engines.weights.purpose import MODULES, SETTINGS, read_json

POOLINGS: Final = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY_POOLINGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TRANSFORMER_FILES: Final = (
    "sentence_bert_config.json", "sentence_roberta_config.json",
    "sentence_distilbert_config.json", "sentence_camembert_config.json",
    "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
)  # fmt: skip
DOCUMENT_PROMPTS: Final = ("document", "passage", "corpus")
"""Names of the prompt for documents, the first that a model has."""
LAYERS: Final = ("Dense", "LayerNorm")
UNPOOLED: Final = "this folder has no modules.json: tokens are pooled by their mean; set [encoding]"


@dataclass(frozen=True, slots=True)
class Layer:
    """A module after pooling. `config` is its config.json."""

    kind: str
    folder: Path
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """How a model's embeddings are made.

    Attributes:
        weights: the folder of the transformer.
        pooling: how the tokens' vectors become one; several are put one after another.
        pools_prompt: whether the prompt's tokens are pooled, too.
        layers: what comes after.
        is_normalized: whether embeddings have length 1.
        prompts: by name.
        default_prompt: the name of the one for requests that name none.
        max_tokens: of an input; `None` where only the transformer bounds it.
        lowers_case: whether texts are read in lower case.
        warnings: for the operator.
    """

    weights: Path
    pooling: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    layers: tuple[Layer, ...] = ()
    is_normalized: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    max_tokens: int | None = None
    lowers_case: bool = False
    warnings: tuple[str, ...] = ()

    def prompt_for(self, name: str) -> str | None:
        """The text of a prompt, `None` where there is none of this name."""
        return dict(self.prompts).get(name)


def read_files(folder: Path, spec: EncodingSpec | None = None) -> EncoderFiles:
    """What a folder says; `spec` is what its operator says instead.

    Raises:
        UnsupportedEncoder: a module or a setting is not supported; names it.
    """
    files = _read(folder, is_pooled_by_operator=spec is not None and spec.pooling is not None)
    files = _with_prompts(files, folder)
    files = files if spec is None else _overridden(files, spec)
    default = files.default_prompt
    if default is not None and files.prompt_for(default) is None:
        names = ", ".join(name for name, _ in files.prompts) or "none"
        raise UnsupportedEncoder(f"the default prompt is {default!r} and the prompts are: {names}")
    return files


def check_scoring(folder: Path) -> None:
    """See that nothing comes after the transformer of a model that scores or classifies.

    Raises:
        UnsupportedEncoder: a module does; names it.
    """
    for kind, _ in _modules(folder)[1:] if (folder / MODULES).is_file() else ():
        answers = ": it scores by a word that the model answers" if kind == "LogitScore" else ""
        raise _unsupported(f"the module {kind}{answers}")


def _read(folder: Path, *, is_pooled_by_operator: bool) -> EncoderFiles:
    if not (folder / MODULES).is_file():
        warnings = () if is_pooled_by_operator else (UNPOOLED,)
        return EncoderFiles(folder, warnings=warnings)
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    if not kinds or kinds[0] != "Transformer":
        raise _unsupported(f"its first module is {kinds[0] if kinds else 'missing'}")
    weights = modules[0][1]
    max_tokens, lowers_case = _transformer(weights, folder)
    if kinds[1:2] != ["Pooling"]:
        raise _unsupported(f"its second module is {kinds[1] if kinds[1:] else 'missing'}, "
                           "where Pooling is supported")  # fmt: skip
    pooling, pools_prompt = _pooling(modules[1][1])
    rest = [module for module in modules[2:] if module[0] != "Dropout"]  # which only trains
    is_normalized = bool(rest) and rest[-1][0] == "Normalize"
    layers = tuple(_layer(*module) for module in (rest[:-1] if is_normalized else rest))
    return EncoderFiles(
        weights=weights,
        pooling=pooling,
        pools_prompt=pools_prompt,
        layers=layers,
        is_normalized=is_normalized,
        max_tokens=max_tokens,
        lowers_case=lowers_case,
    )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Kinds and folders, in their order."""
    listed = read_json(folder / MODULES)
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise UnsupportedEncoder(
            f"{folder / MODULES} is not a list of modules; download the model again"
        )
    found = []
    for module in sorted(listed, key=lambda module: int(module.get("idx", 0))):
        name, path = str(module.get("type", "")), PurePosixPath(str(module.get("path", "")))
        if path.is_absolute() or ".." in path.parts:
            raise UnsupportedEncoder(
                f"{folder / MODULES} names the folder {str(path)!r}, outside its own"
            )
        package, _, kind = name.rpartition(".")
        if package.partition(".")[0] != "sentence_transformers":
            raise _unsupported(f"the module {name!r} is code of its own")
        found.append((kind, folder / path))
    return found


def _transformer(weights: Path, folder: Path) -> tuple[int | None, bool]:
    """How many tokens an input has at most, and whether it is read in lower case."""
    places = (place / name for place in (weights, folder) for name in TRANSFORMER_FILES)
    config = next((found for place in places if isinstance(found := read_json(place), dict)), {})
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise _unsupported(f"its Transformer has the task {task!r}")
    text = (config.get("modality_config") or {}).get("text")
    if text is not None and (text.get("method"), text.get("method_output_name")) != (
        "forward", "last_hidden_state",
    ):  # fmt: skip
        raise _unsupported(f"its Transformer reads texts by {text}")
    max_tokens = config.get("max_seq_length")
    return (
        max_tokens if isinstance(max_tokens, int) else None,
        bool(config.get("do_lower_case", False)),
    )


def _pooling(folder: Path) -> tuple[tuple[str, ...], bool]:
    config = _config(folder)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if unknown := [mode for mode in modes if mode not in POOLINGS]:
        raise _unsupported(f"its pooling {unknown[0]!r} is not known")
    return modes, bool(config.get("include_prompt", True))


def _layer(kind: str, folder: Path) -> Layer:
    if kind == "Normalize":
        return Layer(kind, folder, {})
    if kind not in LAYERS:
        raise _unsupported(f"the module {kind}")
    config = _config(folder)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise _unsupported(f"the module {kind} that has {key} = {config[key]!r}")
    return Layer(kind, folder, config)


def _with_prompts(files: EncoderFiles, folder: Path) -> EncoderFiles:
    settings = read_json(folder / SETTINGS)
    if not isinstance(settings, dict):
        return files
    prompts = settings.get("prompts")
    named = prompts.items() if isinstance(prompts, dict) else ()
    default = settings.get("default_prompt_name")
    return replace(
        files,
        prompts=tuple((str(name), text) for name, text in named if isinstance(text, str)),
        default_prompt=default if isinstance(default, str) else None,
    )


def _overridden(files: EncoderFiles, spec: EncodingSpec) -> EncoderFiles:
    return replace(
        files,
        pooling=files.pooling if spec.pooling is None else spec.pooling,
        is_normalized=files.is_normalized if spec.is_normalized is None else spec.is_normalized,
        prompts=files.prompts if spec.prompts is None else spec.prompts,
        default_prompt=spec.default_prompt or files.default_prompt,
    )


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UnsupportedEncoder(
            f"{folder / 'config.json'} cannot be read; download the model again"
        )
    return config


def _unsupported(what: str) -> UnsupportedEncoder:
    return UnsupportedEncoder(f"this model of sentence-transformers cannot be served: {what}")
