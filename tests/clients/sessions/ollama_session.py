"""A session with Ollama's own client, plain and asynchronous; its models parse every answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import ollama
from task import MAX_TOKENS, MODEL, ROOT, WISH, Trip, tell

THINKER = sys.argv[3]
client = ollama.Client(host=ROOT, timeout=60)
GREEDY = {"temperature": 0, "num_predict": MAX_TOKENS}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}
RESULT = '{"degrees": 18, "sky": "sunny"}'
WISHED = [{"role": "user", "content": WISH}]
HELLO = [{"role": "user", "content": "How do I warm a model?"}]


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name
    """
    return f"{city}: {RESULT}"


def ending(answer: Any) -> dict[str, Any]:
    return {
        "done": answer.done,
        "done_reason": answer.done_reason,
        "counts": [answer.prompt_eval_count, answer.eval_count],
        "durations": [
            answer.load_duration,
            answer.prompt_eval_duration,
            answer.eval_duration,
            answer.total_duration,
        ],
    }


def told(answer: Any) -> dict[str, Any]:
    message = answer.message
    calls = [(c.function.name, dict(c.function.arguments)) for c in message.tool_calls or []]
    return {
        "text": message.content,
        "role": message.role,
        "calls": calls,
        "model": answer.model,
        **ending(answer),
    }


def streamed(parts: Iterable[Any]) -> dict[str, Any]:
    """Put together as Ollama's guide does it; the last part says how it ended."""
    parts = list(parts)
    calls = [call for part in parts for call in part.message.tool_calls or []]
    return {
        "text": "".join(part.message.content or "" for part in parts),
        "calls": [(call.function.name, dict(call.function.arguments)) for call in calls],
        "roles": sorted({part.message.role for part in parts}),
        "parts": len(parts),
        "early": [part.done_reason for part in parts[:-1] if part.done or part.done_reason],
        **ending(parts[-1]),
    }


def chat(messages: Any, **more: Any) -> Any:
    return client.chat(MODEL, messages, options=GREEDY, **more)


def round_trip(*, stream: bool) -> dict[str, Any]:
    """The call as the client's own object gives it back, its result, and the answer."""
    said = chat([QUESTION], tools=[get_weather]).message
    [call] = said.tool_calls
    content = get_weather(**call.function.arguments)
    result = {"role": "tool", "tool_name": call.function.name, "content": content}
    answer = chat([QUESTION, said, result], tools=[get_weather], stream=stream)
    return streamed(answer) if stream else told(answer)


def generated() -> dict[str, Any]:
    whole = client.generate(MODEL, "Once upon a time", raw=True, options=GREEDY)
    parts = list(client.generate(MODEL, "Once upon a time", raw=True, options=GREEDY, stream=True))
    cut = client.generate(MODEL, "Tell me a story.", options={"num_predict": 2}, logprobs=True)
    return {
        "text": whole.response,
        "streamed": "".join(part.response for part in parts),
        "ending": ending(parts[-1]),
        "cut": ending(cut),
        "logprobs": [token.token for token in cut.logprobs],
        "cut_text": cut.response,
        "load": ending(client.generate(MODEL, "")),
    }


def refused(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        answer = ask()
        for _ in answer:
            pass
    except ollama.ResponseError as error:
        return {"error": error.error, "status": error.status_code}
    raise AssertionError("it was not refused")


async def asynchronous() -> dict[str, Any]:
    aside = ollama.AsyncClient(host=ROOT, timeout=60)
    stream = await aside.chat(MODEL, HELLO, options=GREEDY, stream=True)
    return streamed([part async for part in stream])


def thought(**more: Any) -> dict[str, Any]:
    """What a model of random weights thinks, which may never end."""
    options = {"temperature": 0, "num_predict": 9}
    whole = client.chat(THINKER, HELLO, options=options, **more)
    parts = list(client.chat(THINKER, HELLO, options=options, stream=True, **more))
    return {
        "thinking": whole.message.thinking,
        "streamed": "".join(part.message.thinking or "" for part in parts),
        "text": whole.message.content,
        "streamed_text": "".join(part.message.content or "" for part in parts),
        "capabilities": client.show(THINKER).capabilities,
    }


listed = next(model for model in client.list().models if model.model == f"{MODEL}:latest")
loaded = next(model for model in client.ps().models if model.model == f"{MODEL}:latest")
shown = client.show(MODEL)
tell(
    version=version("ollama"),
    listed={"model": listed.model, "size": listed.size, "digest": listed.digest},
    loaded={"model": loaded.model, "context": loaded.context_length, "digest": loaded.digest},
    shown={
        "capabilities": shown.capabilities,
        "family": shown.details.family,
        "info": shown.modelinfo,
        "template": shown.template,
    },
    answer=told(chat(HELLO)),
    tagged=told(client.chat(listed.model, HELLO, options=GREEDY)),
    streamed_answer=streamed(chat(HELLO, stream=True)),
    asynchronous_answer=asyncio.run(asynchronous()),
    call=told(chat([QUESTION], tools=[get_weather])),
    streamed_call=streamed(chat([QUESTION], tools=[get_weather], stream=True)),
    trip_with_tools=round_trip(stream=False),
    streamed_trip_with_tools=round_trip(stream=True),
    structured=json.loads(chat(WISHED, format=Trip.model_json_schema()).message.content),
    streamed_structure=json.loads(
        streamed(chat(WISHED, format=Trip.model_json_schema(), stream=True))["text"]
    ),
    generated=generated(),
    thought=thought(think=True),
    not_thought=thought(think=False),
    errors={
        "temperature": refused(lambda: client.chat(MODEL, HELLO, options={"temperature": -1})),
        "streamed": refused(
            lambda: client.chat(MODEL, HELLO, options={"temperature": -1}, stream=True)
        ),
        "images": refused(lambda: client.generate(MODEL, "x", images=[b"picture"])),
        "suffix": refused(lambda: client.generate(MODEL, "x", suffix="y")),
        "format": refused(lambda: client.chat(MODEL, HELLO, format={"type": "nonsense"})),
        "think": refused(lambda: client.chat(MODEL, HELLO, think=True)),
        "model": refused(lambda: client.chat("nobody", HELLO)),
        "pull": refused(lambda: client.pull("demo")),
        "embed": refused(lambda: client.embed(MODEL, "x")),
        "delete": refused(lambda: client.delete(MODEL)),
    },
)
