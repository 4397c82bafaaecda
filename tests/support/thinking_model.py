"""A tiny model with random weights that reasons and calls tools in the syntax of Qwen 3."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from marked_tokenizer import EOS, marked_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

MARKERS: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")
TEMPLATE: Final = """\
{%- if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif -%}
{%- for m in messages %}<|turn|>{{ m.role }}: {{ m.content or '' }}
{%- for call in m.tool_calls or [] -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}{% endfor -%}
{%- if add_generation_prompt %}<|turn|>assistant: {% if enable_thinking is defined and not
 enable_thinking %}<think>

</think>

{% else %}<think>
{% endif %}{% endif -%}
"""


def make_thinking_model(folder: Path, engine: str) -> Path:
    """The prompt opens the reasoning, unless `enable_thinking` is false."""
    tokenizer = marked_tokenizer((), MARKERS)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(EOS),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    (folder / "model.toml").write_text(f'engine = "{engine}"\n')
    return folder
