"""model.toml: every mistake is reported with file and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmserve.domain import EncodingSpec, EngineKind, RemoteSpec, SamplingFields
from llmserve.domain.conversation import of_system
from llmserve.errors import ConfigurationError
from llmserve.registry.manifest import read_manifest


def folder_with(tmp_path: Path, manifest: str) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.toml").write_text(manifest)
    return folder


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("dtpye = 'auto'", "'dtpye'; did you mean 'dtype'"),
        ("[sampling]\ntemprature = 1.0", "'sampling.temprature'; did you mean 'temperature'"),
        ("[warmup]\nprompt = ['x']", "did you mean 'prompts'"),
        ("[warmup]\nprefix = ['x']", "did you mean 'prefixes'"),
        ("[warmup]\nprefixes = 'x'", "warmup.prefixes: "),
        ("[warmup]\nprefixes = ['']", "warmup.prefixes.0: "),
        ("[warmup]\nsystem_prompts = [1]", "warmup.system_prompts.0: "),
        ("xyz = 1", "there are path, hub_id"),
        ("dtype = 'int3'", "dtype: "),
        ("device = 'tpu'", "device: "),
        ("engine = 'steam'", "engine: "),
        ("max_context = 0", "max_context: "),
        ("max_context = '9'", "max_context: "),
        ("aliases = ['a b']", "aliases.0: "),
        ("[sampling]\ntemperature = 3.0", "sampling.temperature: "),
        ("[sampling]\ntop_p = nan", "sampling.top_p: "),
        ("[sampling]\nstop_token_ids = [-1]", "sampling.stop_token_ids.0: "),
        ("[sampling]\nbad_words = ['']", "sampling.bad_words.0: "),
        ("[sampling]\nthinking_token_budget = -1", "sampling.thinking_token_budget: "),
        ("[sampling]\nskip_special_tokens = 'no'", "sampling.skip_special_tokens: "),
        ("hub_id = '../etc'", "hub_id: "),
        ("path = 'a'\nhub_id = 'b/c'", "path and hub_id exclude each other"),
        ("revision = 'main'", "revision needs a hub_id"),
        ("chat_template = 'missing.jinja'", "missing.jinja"),
        ("path = [", "cannot be read"),
        ("[encoding]\npooling = 'median'", "encoding.pooling"),
        ("[encoding]\npooling = []", "encoding.pooling"),
        ("[encoding]\npoolng = 'cls'", "'encoding.poolng'; did you mean 'pooling'"),
        ("[encoding]\nprompts = {'' = 'q'}", "encoding.prompts"),
        ("engine = 'encoding'\n[sampling]\ntop_k = 3", "sampling is for models that generate"),
        ("[encoding]\n[output]\nsyntax = 'hermes'", "output is for models that generate"),
        ("[encoding]\n[warmup]\nprefixes = ['x']", "prefixes and system_prompts of"),
        ("engine = 'threaded'\n[encoding]", "exclude each other"),
        ("upstream = 'http://a'\n[encoding]", "upstream and encoding exclude each other"),
        ("[output]\nsyntx = 'hermes'", "'output.syntx'; did you mean 'syntax'"),
        ("[output]\nsyntax = 'hermse'", "output.syntax: Value error, there is no syntax 'hermse'"),
        ("[output]\nsyntax = 'hermse'", "did you mean 'hermes'"),
        ("[output]\nsyntax = 'x'", "there are hermes, qwen_xml"),
        ("[output]\nsyntax = 3", "output.syntax: "),
        ("[output.syntax]\nstart_anchr = 'x'", "'output.syntax.start_anchr'; did you mean"),
        (
            "[output.syntax.fields.a]\nopn = 'x'",
            "'output.syntax.fields.a.opn'; did you mean 'open'",
        ),
        ("[output.syntax]\nstart_anchor = 'x'", "output.syntax.fields: Field required"),
        ("[remote]\nmodel = 'x'", "[remote] needs an upstream"),
        ("upstream = []", "upstream: Value error, there may be 1 to 1024 upstreams"),
        ("upstream = 7", "upstream: "),
        ("upstream = [7]", "upstream.0: "),
        ("upstream = 'box:8000'", "upstream: Value error, 'box:8000' is not a server's URL"),
        ("upstream = 'grpc://box'", "'grpc://box' is no gRPC server's URL"),
        ("upstream = 'grpcs://box:1/v2'", "write it as grpc://HOST:PORT"),
        (
            "upstream = 'grpc://box:1'\n[remote]\nhealth_path = '/up'",
            "health_path is for upstreams",
        ),
        (
            "upstream = 'https://a'\n[remote]\nclient_key_file = 'k'",
            "client_cert_file and client_key_file belong together",
        ),
        ("upstream = 'http://me:secret@box'", "has a password in it; use key_file or key_env"),
        ("upstream = ['http://a/v1', 'http://a']", "http://a is there twice"),
        ("upstream = 'http://a'\npath = '.'", "upstream and path exclude each other"),
        ("upstream = 'http://a'\nhub_id = 'a/b'", "upstream and hub_id exclude each other"),
        ("upstream = 'http://a'\ndevice = 'cpu'", "upstream and device exclude each other"),
        ("upstream = 'http://a'\nengine = 'auto'", "upstream and engine exclude each other"),
        ("upstream = 'http://a'\nquantize = 'int8'", "upstream and quantize exclude each other"),
        ("quantize = 'int3'", "quantize: "),
        ("gguf_file = '../x.gguf'", "gguf_file: "),
        ("dequantise = true", "'dequantise'; did you mean 'dequantize'"),
        ("engine = 'encoding'\ndequantize = true", "dequantize is for models that generate"),
        ("upstream = 'http://a'\n[output]\nsyntax = 'hermes'", "upstream and output exclude"),
        ("upstream = 'http://a'\n[warmup]\nprefixes = ['x']", "prefixes and system_prompts of"),
        ("upstream = 'http://a'\n[remote]\nmodle = 'x'", "'remote.modle'; did you mean 'model'"),
        ("upstream = 'http://a'\n[remote]\nprotocol = 'tgi'", "remote.protocol: "),
        ("upstream = 'http://a'\n[remote]\nretries = 2.0", "remote.retries: "),
        ("upstream = 'http://a'\n[remote]\nconnect_seconds = 0.0", "remote.connect_seconds: "),
        ("upstream = 'http://a'\n[remote]\nhealth_path = 'x'", "remote.health_path: "),
        (
            "upstream = 'http://a'\n[remote]\nkey_file = 'k'\nkey_env = 'K'",
            "key_file and key_env exclude each other",
        ),
    ],
)
def test_a_mistake_is_told_with_file_and_key(tmp_path: Path, manifest: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_manifest(folder_with(tmp_path, manifest))
    assert "model.toml" in refused.value.message
    assert told in refused.value.message


def test_a_folder_without_a_manifest_holds_its_weights(tmp_path: Path) -> None:
    spec = read_manifest(tmp_path)
    assert (spec.name, spec.path) == (tmp_path.name, tmp_path.resolve())
    assert not spec.trust_remote_code


def test_every_key_reaches_the_spec(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        """
        path = "weights"
        aliases = ["one", "two"]
        dtype = "bfloat16"
        device = "cuda:1"
        engine = "threaded"
        max_context = 99
        trust_remote_code = true
        dequantize = true
        quantize = "none"
        chat_template = "t.jinja"
        [output]
        syntax = "hermes"
        [sampling]
        temperature = 0.5
        stop = ["x"]
        stop_token_ids = [5, 6]
        skip_special_tokens = false
        bad_words = ["darn"]
        thinking_token_budget = 100
        [warmup]
        prompts = ["p"]
        prefixes = ["Once", "Twice"]
        system_prompts = ["You are kind."]
        """,
    )
    (folder / "t.jinja").write_text("{{ messages }}")
    spec = read_manifest(folder)
    assert spec.path == (folder / "weights").resolve()
    assert spec.aliases == ("one", "two")
    assert (spec.dtype, spec.device, spec.engine) == ("bfloat16", "cuda:1", EngineKind.THREADED)
    assert (spec.max_context, spec.trust_remote_code) == (99, True)
    assert (spec.dequantize, spec.quantize, spec.packs_to) == (True, "none", None)
    assert spec.chat_template == "{{ messages }}"
    assert spec.output_syntax == "hermes"
    assert spec.sampling == SamplingFields(
        temperature=0.5,
        stop=("x",),
        stop_token_ids=(5, 6),
        skips_special_tokens=False,
        bad_words=("darn",),
        thinking_budget=100,
    )
    assert spec.warmup_prompts == ("p",)
    assert spec.warmup_prefixes == ("Once", "Twice", of_system("You are kind."))


def test_a_manifest_may_name_a_hub_repository(tmp_path: Path) -> None:
    spec = read_manifest(folder_with(tmp_path, "hub_id = 'org/name'\nrevision = 'v1'"))
    assert (spec.path, spec.hub_id, spec.revision) == (None, "org/name", "v1")


@pytest.mark.parametrize("key", ["gguf_file", "path"])
def test_weights_may_be_one_gguf_file(tmp_path: Path, key: str) -> None:
    folder = folder_with(tmp_path, f"{key} = 'x-Q4_0.gguf'")
    spec = read_manifest(folder)
    assert (spec.path, spec.gguf_file) == (folder.resolve(), "x-Q4_0.gguf")


def test_weights_may_be_one_gguf_file_of_the_hub(tmp_path: Path) -> None:
    spec = read_manifest(folder_with(tmp_path, "hub_id = 'org/x'\ngguf_file = 'x-Q4_0.gguf'"))
    assert (spec.path, spec.hub_id, spec.gguf_file) == (None, "org/x", "x-Q4_0.gguf")


def test_a_syntax_may_be_a_response_template(tmp_path: Path) -> None:
    manifest = """
    [output.syntax]
    start_anchor = "<bot>"
    [output.syntax.fields.content]
    [output.syntax.fields.tool_calls]
    open = ["[[", "{{"]
    close = "]]"
    content = "json"
    transform = {function = "{content}"}
    """
    syntax = read_manifest(folder_with(tmp_path, manifest)).output_syntax
    assert syntax is not None
    assert json.loads(syntax) == {
        "start_anchor": "<bot>",
        "fields": {
            "content": {},
            "tool_calls": {
                "open": ["[[", "{{"],
                "close": "]]",
                "content": "json",
                "transform": {"function": "{content}"},
            },
        },
    }


def test_a_model_that_is_elsewhere(tmp_path: Path) -> None:
    text = """
upstream = ["http://box-a:8000/v1", "https://box-b"]
aliases = ["fast"]
max_context = 100
[sampling]
temperature = 0.5
[warmup]
prompts = ["hi"]
[remote]
model = "llama"
key_file = "key"
first_token_seconds = 30.0
"""
    folder = folder_with(tmp_path, text)
    spec = read_manifest(folder)
    assert (spec.path, spec.hub_id, spec.device) == (None, None, "remote")
    assert spec.engine is EngineKind.REMOTE
    assert spec.remote == RemoteSpec(
        ("http://box-a:8000", "https://box-b"),
        "llama",
        key_file=(folder / "key").resolve(),
        first_token_seconds=30.0,
    )
    assert (spec.aliases, spec.max_context, spec.warmup_prompts) == (("fast",), 100, ("hi",))
    assert spec.sampling == SamplingFields(temperature=0.5)


def test_upstreams_over_grpc_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    text = """
upstream = ["grpc://box-a:9000", "grpcs://[::1]:9000"]
[remote]
client_cert_file = "own.pem"
client_key_file = "own.key"
"""
    folder = folder_with(tmp_path, text)
    assert read_manifest(folder).remote == RemoteSpec(
        ("grpc://box-a:9000", "grpcs://[::1]:9000"),
        "mine",
        client_cert_file=(folder / "own.pem").resolve(),
        client_key_file=(folder / "own.key").resolve(),
    )


def test_one_upstream_needs_no_list_and_the_model_has_its_own_name_there(tmp_path: Path) -> None:
    spec = read_manifest(folder_with(tmp_path, "upstream = 'http://[::1]:8000/'"))
    assert spec.remote == RemoteSpec(("http://[::1]:8000",), "mine")


def test_how_a_model_encodes(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        """
        engine = "encoding"
        [encoding]
        pooling = ["cls", "mean"]
        normalize = true
        prompts = { query = "q: ", document = "" }
        default_prompt = "query"
        [warmup]
        prompts = ["Hello"]
        """,
    )
    spec = read_manifest(folder)
    assert spec.engine is EngineKind.ENCODING
    assert spec.encoding == EncodingSpec(
        ("cls", "mean"),
        is_normalized=True,
        prompts=(("query", "q: "), ("document", "")),
        default_prompt="query",
    )
    (folder / "model.toml").write_text("[encoding]\npooling = 'cls'")
    assert read_manifest(folder).encoding == EncodingSpec(("cls",))
    (folder / "model.toml").write_text("")
    assert read_manifest(folder).encoding is None


def test_a_model_whose_files_say_that_it_encodes_has_no_sampling(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "[sampling]\ntemperature = 0.5")
    assert read_manifest(folder).sampling.temperature == 0.5
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="sampling is for models that generate"):
        read_manifest(folder)
