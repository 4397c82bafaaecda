"""Chat templates in the forms that well-known families have, and tokenizers of several kinds for
them: what a template does to its words differs as much as how tokens are cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Final

import tokenizers
from small_bpe import trained_bpe
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTROL: Final = ("<s>", "</s>", "<|start|>", "<|end|>", "[INST]", "[/INST]", "<start_of_turn>")
THINK: Final = ("<think>", "</think>")
"""Added tokens, but not special ones."""

CHATML: Final = """\
{%- for message in messages %}
{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""

LLAMA_3: Final = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\\n\\n" + system_message + "<|end|>" }}
{%- for message in messages %}
    {%- set content = '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '</s>' %}
    {%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{- content }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{% endif %}"""  # noqa: E501

MISTRAL: Final = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('the roles must alternate user and assistant') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " ~ system_message ~ "\\n\\n" ~ message["content"]|trim ~ " [/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"].strip() + " [/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}"""

GEMMA: Final = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}\
{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<|end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

LLAMA_GUARD: Final = """\
{{- bos_token + '[INST] Task: is this safe?\\n\\n<BEGIN CONVERSATION>\\n\\n' }}
{%- for message in messages %}
    {%- if message.role != 'system' %}
        {%- for part in message.content | selectattr('type', 'equalto', 'text') %}
{{- message['role'] | capitalize ~ ': ' ~ part['text'] | trim ~ '\\n\\n' }}
        {%- endfor %}
    {%- else %}
{{- 'Policy: ' + message.content[0].text + '\\n' }}
    {%- endif %}
{%- endfor %}
{{- '<END CONVERSATION> [/INST]' }}"""

QWEN_3: Final = """\
{%- set ns = namespace(last=messages|length - 1) %}
{%- macro body(content) %}{{ content if content is string else content | tojson }}{% endmacro %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and not (message.content.startswith('<tool_response>')
        and message.content.endswith('</tool_response>')) %}
        {%- set ns.last = messages|length - loop.index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = body(message.content) | trim %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
{{- '<|start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
{{- '<|start|>' + message.role + '\\n' + content }}
        {%- endif %}
    {%- else %}
{{- '<|start|>' + message.role + '\\n' + content }}
    {%- endif %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""  # noqa: E501

WAYWARD: Final = """\
{%- for m in messages %}
{{- '<|start|>%s %d\\n' % (m.role, loop.index) }}
{{- '[INST]{}|{}[/INST]'.format(m.content.replace('\\n', ' '), m.content | length) }}
{{- {'role': m.role, 'content': m.content} | tojson }}
{{- ['<s>', m.content[:9], m.content | upper] | join('</s>') }}
{%- filter trim %} {{ m.content }}<|end|> {% endfilter %}
{%- for line in m.content.splitlines() %}{{ '> ' ~ line ~ '\\n' }}{% endfor %}
{%- generation %}{{ m.content | replace('a', 'A') | indent(2) }}{% endgeneration %}
{%- endfor %}"""

FAMILIES: Final = {
    "chatml": CHATML,
    "llama-3": LLAMA_3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "llama-guard": LLAMA_GUARD,
    "qwen-3": QWEN_3,
    "wayward": WAYWARD,
}


def byte_level() -> tokenizers.Tokenizer:
    """As in GPT-2, Llama 3 and Qwen: pre-tokenized by a regular expression."""
    bpe = tokenizers.Tokenizer.from_str(trained_bpe().to_str())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return bpe


def sentencepiece(scheme: str) -> tokenizers.Tokenizer:
    """As in Llama 2 and Mistral: the whole text is one word, with a space before it (`scheme`)."""
    letters = [chr(code) for code in range(0x21, 0x7F)]
    words = ["<unk>", *CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "<"), ("▁", "▁"), ("e", "n")]
    merges += [("en", "d"), ("|", ">"), ("<", "|"), ("i", "n"), (">", "▁"), ("<", "/")]
    vocab = {word: i for i, word in enumerate([*words, *(a + b for a, b in merges)])}
    bpe = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>"))
    if scheme == "legacy":
        bpe.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return bpe


def unigram() -> tokenizers.Tokenizer:
    """As in T5 and XLNet: control tokens are words of the vocabulary, and the likeliest ones."""
    letters = [chr(code) for code in range(0x21, 0x7F)]
    pieces = [("<unk>", 0.0), *((token, 0.0) for token in CONTROL)]
    pieces += [("▁", -2.0), *((letter, -4.0) for letter in letters)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    model = models.Unigram(pieces, unk_id=0, byte_fallback=True)
    words = tokenizers.Tokenizer(model)
    words.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return words


KINDS: Final[dict[str, Callable[[], tokenizers.Tokenizer]]] = {
    "byte-level": byte_level,
    "metaspace": lambda: sentencepiece("first"),
    "legacy": lambda: sentencepiece("legacy"),
    "unigram": unigram,
}


@cache
def family(kind: str, template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of that kind, with the tokens of all templates and one of these."""
    backend = KINDS[kind]()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    backend.add_tokens([AddedToken(token, normalized=False) for token in THINK])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token=None
    )
    hf.chat_template = FAMILIES[template]
    assert json.loads(backend.to_str())["added_tokens"]
    return hf
