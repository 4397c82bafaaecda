"""Chat templates that show tools, in the forms that well-known families have."""

from __future__ import annotations

from functools import cache
from typing import Final

from chat_families import CONTROL, FAMILIES, THINK, byte_level, family
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from llmserve.text.chat_template import ChatTemplate

TAGS: Final = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Added tokens that are not special, as in Qwen's vocabularies."""

HERMES: Final = """\
{%- if tools %}
{{- '<|start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
{{- 'Functions:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
{{- '\\n</tools>\\nCall with <tool_call></tool_call>.<|end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|start|>system\\n' + messages[0].content + '<|end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first)
        or (message.role == 'assistant' and not message.tool_calls) %}
{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>\\n' }}
    {%- elif message.role == 'assistant' %}
{{- '<|start|>assistant' }}
        {%- if message.content %}{{- '\\n' + message.content }}{% endif %}
        {%- for tool_call in message.tool_calls %}
            {%- set tool_call = tool_call.function or tool_call %}
{{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
{{- tool_call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
        {%- endfor %}
{{- '<|end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
{{- '<|start|>user' }}
        {%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
{{- '<|end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""

THINKING: Final = """\
{%- if tools %}
{{- '<|start|>system\\n# Tools\\n' + (tools | tojson(indent=1)) + '<|end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
{{- '<|start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and thought %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
{{- content }}
        {%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
        {%- endfor %}
{{- '<|end|>\\n' }}
    {%- elif message.role == 'tool' %}
{{- '<|start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|end|>\\n' }}
    {%- else %}
{{- '<|start|>' + message.role + '\\n' + content + '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}
{{- '<think>\\n' }}
    {%- endif %}
{%- endif %}"""  # noqa: E501

LLAMA_3_1: Final = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start|>system<|end|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{% endif %}
{{- system_message + '</s>' }}
{%- if tools is not none %}
    {%- set first_user_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{{- '<|start|>user<|end|>\\n\\nAnswer with {"name": function, "parameters": object}.\\n\\n' }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- '\\n\\n' }}{% endfor %}
{{- first_user_message + '</s>' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
{{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '</s>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('one call at a time') }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
{{- '<|start|>assistant<|end|>\\n\\n{"name": "' + tool_call.name + '", "parameters": ' }}
{{- tool_call.arguments | tojson }}
{{- '}</s>' }}
    {%- else %}
{{- '<|start|>ipython<|end|>\\n\\n' }}
        {%- if message.content is mapping or message.content is iterable %}
{{- message.content | tojson }}
        {%- else %}
{{- message.content }}
        {%- endif %}
{{- '</s>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{% endif %}"""

MISTRAL_TOOLS: Final = """\
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools is not none and message == users[-1] %}
{{- '[AVAILABLE_TOOLS] [' }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
{{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != 'return' %}
                    {%- if val is string %}
{{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
{{- '"' + key + '": ' + val | tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ', ' }}{% endif %}
                {%- endfor %}
{{- '}}' }}{{- ', ' if not loop.last else ']' }}
            {%- endfor %}
{{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
{{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
{{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function | tojson %}
{{- out[:-1] }}
            {%- if not call.id is defined or call.id | length != 9 %}
                {{- raise_exception('ids have 9 letters and digits') }}
            {%- endif %}
{{- ', "id": "' + call.id + '"}' }}{{- ', ' if not loop.last else ']' + eos_token }}
        {%- endfor %}
    {%- elif message.role == 'assistant' %}
{{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {%- if message.tool_call_id is not defined or message.tool_call_id | length != 9 %}
            {{- raise_exception('ids have 9 letters and digits') }}
        {%- endif %}
{{- '[TOOL_RESULTS] {"content": ' + message.content | string }}
{{- ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('only users, assistants and tools') }}
    {%- endif %}
{%- endfor %}"""

CHANNELS: Final = """\
{%- macro kind(spec) %}
    {%- if spec.type == 'array' %}{{- kind(spec['items']) + '[]' }}
    {%- elif spec.enum %}{{- '"' + spec.enum | join('" | "') + '"' }}
    {%- elif spec.type == 'object' and spec.properties %}{{- '{ ' }}
        {%- for name, inner in spec.properties.items() %}
{{- name + ('' if name in (spec.required or []) else '?') + ': ' + kind(inner) + ', ' }}
        {%- endfor %}{{- '}' }}
    {%- else %}{{- spec.type or 'any' }}{% endif %}
{%- endmacro %}
{{- '<|start|>system\\nReasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}
{%- set rest = messages %}
{%- if messages[0].role in ('developer', 'system') %}
    {%- set instructions, rest = messages[0].content, messages[1:] %}
{%- endif %}
{%- if instructions or tools %}
{{- '<|start|>developer\\n' }}
    {%- if instructions %}{{- '# Instructions\\n' + instructions + '\\n' }}{% endif %}
    {%- if tools %}
{{- '# Tools\\nnamespace functions {\\n' }}
        {%- for tool in tools %}
            {%- set tool = tool.function %}
{{- '// ' + tool.description + '\\ntype ' + tool.name + ' = (_: ' }}
            {%- for name, spec in (tool.parameters.properties or {}).items() %}
{{- '\\n// ' + (spec.description or '') + '\\n' + name }}
{{- ': ' if name in (tool.parameters.required or []) else '?: ' }}{{ kind(spec) }}
                {%- if spec.default is defined %}{{- ' // default: ' ~ spec.default }}{% endif %}
{{- ',' }}
            {%- endfor %}
{{- ') => any;\\n' }}
        {%- endfor %}
{{- '}' }}
    {%- endif %}
{{- '<|end|>' }}
{%- endif %}
{%- set called = namespace(name=none) %}
{%- for message in rest %}
    {%- if message.role == 'assistant' %}
        {%- if message.tool_calls %}
            {%- if message.content and message.thinking %}
                {{- raise_exception('either content or thinking, not both') }}
            {%- endif %}
            {%- if message.content or message.thinking %}
{{- '<|start|>assistant<|channel|>analysis\\n' + (message.content or message.thinking) + '<|end|>' }}
            {%- endif %}
            {%- set call = message.tool_calls[0].function %}
            {%- set called.name = call.name %}
{{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json\\n' }}
{{- call.arguments | tojson }}{{- '<|end|>' }}
        {%- else %}
            {%- if message.thinking and not add_generation_prompt %}
{{- '<|start|>assistant<|channel|>analysis\\n' + message.thinking + '<|end|>' }}
            {%- endif %}
{{- '<|start|>assistant<|channel|>final\\n' + message.content + '<|end|>' }}
        {%- endif %}
    {%- elif message.role == 'tool' %}
        {%- if called.name is none %}{{- raise_exception('a result without a call') }}{% endif %}
{{- '<|start|>functions.' + called.name + ' to=assistant\\n' + message.content | tojson + '<|end|>' }}
    {%- elif message.role == 'user' %}
{{- '<|start|>user\\n' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"""  # noqa: E501

DEEPSEEK: Final = """\
{%- set ns = namespace(system='', is_tool=false) %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- set ns.system = ns.system + message['content'] %}
    {%- endif %}
{%- endfor %}
{{- bos_token + ns.system }}
{%- if tools is defined and tools is not none %}
{{- '\\n## Tools' }}
    {%- for tool in tools %}
{{- '\\n### ' + tool.function.name + '\\n' + tool.function.description + '\\n' }}
{{- tool.function.parameters | tojson }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {%- set ns.is_tool = false %}
{{- '[INST]' + message['content'] }}
    {%- elif message['role'] == 'assistant' and message['content'] is none %}
        {%- set ns.is_tool = false %}
{{- '[/INST]<calls>' }}
        {%- for call in message['tool_calls'] %}
{{- call['type'] + '<sep>' + call['function']['name'] + '\\n```json\\n' + call['function']['arguments'] + '\\n```' }}
        {%- endfor %}
{{- '</calls></s>' }}
    {%- elif message['role'] == 'assistant' %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- ('<outputs_end>' if ns.is_tool else '[/INST]') + content + '</s>' }}
        {%- set ns.is_tool = false %}
    {%- elif message['role'] == 'tool' %}
        {%- set ns.is_tool = true %}
{{- '<output>' + message['content'] + '</output>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- ('<outputs_end>' if ns.is_tool else '[/INST]') + '<think>\\n' }}
{%- endif %}"""  # noqa: E501

XML: Final = """\
{%- if messages[0].role == 'system' %}
    {%- set system, rest = messages[0].content, messages[1:] %}
{%- else %}
    {%- set system, rest = 'You help.', messages %}
{%- endif %}
{{- '<|start|>system\\n' + system }}
{%- for tool in tools or [] %}
    {%- set tool = tool.function if tool.function is defined else tool %}
{{- '\\n<function>\\n<name>' ~ tool.name ~ '</name>' }}
    {%- for name, fields in tool.parameters.properties | items %}
{{- '\\n<parameter>\\n<name>' ~ name ~ '</name>' }}
        {%- for key in fields.keys() | reject('in', ['name']) %}
{{- '\\n<' ~ key ~ '>' ~ (fields[key] | tojson if fields[key] is mapping else fields[key] | string) ~ '</' ~ key ~ '>' }}
        {%- endfor %}
{{- '\\n</parameter>' }}
    {%- endfor %}
{{- '\\n</function>' }}
{%- endfor %}
{{- '<|end|>\\n' }}
{%- for message in rest %}
    {%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|start|>assistant' }}
        {%- if message.content is defined and message.content is string and message.content | trim %}
{{- '\\n' + message.content | trim }}
        {%- endif %}
        {%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}
            {%- for name, value in call.function.arguments | items %}
{{- '<parameter=' + name + '>\\n' }}
                {%- set value = value | tojson if value is mapping or (value is sequence and value is not string) else value | string %}
{{- value }}
{{- '\\n</parameter>\\n' }}
            {%- endfor %}
{{- '</function>\\n</tool_call>' }}
        {%- endfor %}
{{- '<|end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.previtem and loop.previtem.role != 'tool' %}{{- '<|start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|end|>\\n' }}{% endif %}
    {%- else %}
{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""  # noqa: E501

TOOL_FAMILIES: Final = {
    "hermes": HERMES,
    "thinking": THINKING,
    "llama-3.1": LLAMA_3_1,
    "mistral-tools": MISTRAL_TOOLS,
    "channels": CHANNELS,
    "deepseek": DEEPSEEK,
    "xml": XML,
}


@cache
def tool_family(name: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the tokens of all of these templates and one of them."""
    backend = byte_level()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    backend.add_tokens([AddedToken(token, normalized=False) for token in (*THINK, *TAGS)])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token=None
    )
    hf.chat_template = TOOL_FAMILIES[name]
    return hf


@cache
def template_of(name: str) -> ChatTemplate:
    """Of any family, with tools or without."""
    return ChatTemplate(family("byte-level", name) if name in FAMILIES else tool_family(name))
