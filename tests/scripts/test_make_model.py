"""The model maker: every miniature runs, the same seed gives the same bytes, shapes are true."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from make_model import main, make_model  # noqa: E402  (needs the path above)
from random_models.folder import FolderOccupied  # noqa: E402
from random_models.presets import PRESETS, UnknownPreset, find_preset  # noqa: E402
from random_models.tokenizer import build_tokenizer  # noqa: E402
from random_models.weights import (  # noqa: E402
    count_parameters,
    meta_model,
    random_model,
    write_shards,
)

TINY = [name for name, preset in PRESETS.items() if preset.is_tiny]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好 👋"}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every miniature, each in a folder of its name."""
    root = tmp_path_factory.mktemp("models")
    for name in TINY:
        make_model(name, root / name)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", TINY)
def test_a_miniature_loads_and_generates(models: Path, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / name)
    model, loading = AutoModelForCausalLM.from_pretrained(models / name, output_loading_info=True)
    assert not any(loading.values()), loading
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    prompt = tokenizer.apply_chat_template(
        CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    num_prompt_tokens = prompt["input_ids"].shape[1]
    assert num_prompt_tokens > 16, "a prompt must be longer than the sliding window"
    output = model.generate(**prompt, max_new_tokens=24, min_new_tokens=24, do_sample=False)
    tokens = output[0, num_prompt_tokens:].tolist()
    assert len(tokens) == 24
    assert len(set(tokens)) > 4, f"greedy text repeats itself: {tokens}"
    assert tokenizer.decode(tokens)
    assert model.generation_config.eos_token_id == [2, 0]
    assert model.generation_config.pad_token_id == 0


@pytest.mark.parametrize("name", TINY)
def test_tokens_are_the_same_for_every_family(models: Path, name: str) -> None:
    text = "It's 1,250 apples:\n\n    return x  # 你好\n"
    reference = AutoTokenizer.from_pretrained(models / "tiny-llama")
    assert AutoTokenizer.from_pretrained(models / name).encode(text) == reference.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        "今天的天气很好。我们一起去公园吧。龘",
        "🎉👩‍💻🇫🇷 done 🫠",
        "def f(x):\n    if x:\n\treturn {'a': 1}\n\n\n    return None\n",
        "  leading, double  and trailing  ",
    ],
)
def test_tokenizer_gives_text_back_unchanged(models: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "tiny-llama")
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chat_template_renders_chatml(models: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "tiny-llama")
    assert tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n你好 👋<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokenizer.encode("<|endoftext|><|im_start|><|im_end|>") == [0, 1, 2]
    assert tokenizer.decode([0, 1, 2], skip_special_tokens=True) == ""


def test_padded_vocabulary_decodes_every_id_and_finds_it_again() -> None:
    tokenizer = build_tokenizer(vocab_size=49_152, max_length=8192)
    assert len(tokenizer) == 49_152
    assert all(tokenizer.batch_decode([[i] for i in range(49_152)]))
    filler = list(range(20_000, 20_100))
    words = tokenizer.decode(filler)
    assert re.fullmatch(r"( [a-z]{4,6})+", words)
    assert tokenizer.encode(words) == filler


def test_a_vocabulary_below_the_trained_one_is_refused() -> None:
    with pytest.raises(ValueError, match="trained vocabulary has 1536"):
        build_tokenizer(vocab_size=1000, max_length=100)


def test_same_seed_gives_same_bytes(models: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)  # the caller's random state must not matter
    make_model("tiny-mixtral", tmp_path / "again")
    make_model("tiny-mixtral", tmp_path / "other", seed=1)
    assert contents(tmp_path / "again") == contents(models / "tiny-mixtral")
    weights = "model.safetensors"
    assert contents(tmp_path / "other")[weights] != contents(tmp_path / "again")[weights]


def test_making_a_model_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    make_model("tiny-llama", tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_is_the_same_model_rounded(models: Path, tmp_path: Path) -> None:
    make_model("tiny-llama", tmp_path / "bf16", dtype="bfloat16")
    exact = load_file(models / "tiny-llama" / "model.safetensors")
    rounded = load_file(tmp_path / "bf16" / "model.safetensors")
    assert rounded.keys() == exact.keys()
    assert all(torch.equal(rounded[key], exact[key].bfloat16()) for key in exact)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "bf16")
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen3"])  # untied and tied
def test_streamed_shards_equal_the_model_built_in_memory(tmp_path: Path, name: str) -> None:
    config = find_preset(name).config()
    model = meta_model(config)
    write_shards(model, tmp_path, seed=0, dtype=torch.float32, shard_bytes=200_000)
    model.config.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    whole = random_model(config, seed=0).state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in loaded.state_dict().items())
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("smollm2-135m", 134_515_008),
        ("qwen3-0.6b", 596_049_920),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
    ],
)
def test_published_shapes_have_their_published_size(name: str, num_parameters: int) -> None:
    model = meta_model(find_preset(name).config())
    assert count_parameters(model) == num_parameters
    assert all(parameter.is_meta for parameter in model.parameters())


def test_list_shows_every_preset_with_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    output = capsys.readouterr().out
    assert all(re.search(rf"^{re.escape(name)} .*\d$", output, re.MULTILINE) for name in PRESETS)


def test_unknown_preset_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--preset", "tiny-lama", "--out", str(tmp_path / "x")])
    assert exit_.value.code == 2
    assert "did you mean tiny-llama" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(UnknownPreset):
        make_model("nothing like it", tmp_path / "x")


def test_underscores_name_the_same_preset() -> None:
    assert find_preset("tiny-gpt_oss") is find_preset("tiny-gpt-oss")


def test_a_folder_of_other_files_is_refused_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "model.safetensors").write_text("somebody's")
    arguments = ["--preset", "tiny-llama", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_text() == "somebody's"
    assert main([*arguments, "--force"]) == 0
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_earlier_random_model_is_replaced(tmp_path: Path) -> None:
    make_model("tiny-llama", tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").write_text("a stale shard")
    make_model("tiny-qwen2", tmp_path)
    assert not list(tmp_path.glob("model-*"))
    marker = json.loads((tmp_path / "random_model.json").read_text())
    assert marker["preset"] == "tiny-qwen2"


def test_out_may_not_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(FolderOccupied):
        make_model("tiny-llama", path)


def test_files_are_readable_by_every_user(models: Path) -> None:
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (models / "tiny-llama").iterdir())
