"""From requests to tasks: inputs become tokens, parameters are decided, and all is checked."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from llmserve.domain import (
    Caller,
    EncodingInput,
    EncodingPurpose,
    EncodingRequest,
    TextPair,
    Truncation,
)
from llmserve.engines.encoding.files import DOCUMENT_PROMPTS
from llmserve.engines.encoding.loading import LoadedEncoder
from llmserve.engines.encoding_task import EncodingTask, TokenInput
from llmserve.errors import InputTooLong, InvalidRequest

MOST_INPUTS: Final = 2048
"""As OpenAI has it; what one request holds in memory is bounded by it."""
QUERY: Final = "query"


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that the model embeds, and the prompt before it."""

    text: str
    prompt: str = ""


class EncodingTaskBuilder:
    """Makes the tasks of one model; `build` runs on any thread, and takes time in proportion to the
    inputs."""

    def __init__(self, name: str, loaded: LoadedEncoder) -> None:
        self._name = name
        self._loaded = loaded
        self._embeds = EncodingPurpose.EMBEDDING in loaded.encoding.purposes

    def check(self, request: EncodingRequest) -> None:
        """What can be seen without tokens.

        Raises:
            InvalidRequest: a parameter cannot be served, or the model is not for it.
        """
        info, purpose = self._loaded.encoding, request.purpose
        if purpose not in info.purposes:
            raise InvalidRequest(
                f"model {self._name!r} is not for this ({purpose.value}); what it can do: "
                + ", ".join(info.capabilities),
                param="model",
            )
        if not 1 <= len(request.inputs) <= MOST_INPUTS:
            raise InvalidRequest(
                f"there are {len(request.inputs):,} inputs, and a request has 1 to "
                f"{MOST_INPUTS:,}; split it",
                param="input",
            )
        if purpose is EncodingPurpose.SCORE and not all(
            isinstance(each, TextPair) for each in request.inputs
        ):
            raise InvalidRequest("scores are of pairs of texts", param="input")
        if purpose is EncodingPurpose.EMBEDDING and any(
            isinstance(each, TextPair) for each in request.inputs
        ):
            raise InvalidRequest("embeddings are of single texts, not of pairs", param="input")
        self._check_of_embeddings(request)

    def build(self, request: EncodingRequest, caller: Caller, deadline: float) -> EncodingTask:
        """The task of a request that was checked.

        Raises:
            InvalidRequest: an input is too long, has no tokens or none of the vocabulary.
        """
        compared: tuple[tuple[int, int], ...] = ()
        if request.purpose is EncodingPurpose.SCORE and self._embeds:
            inputs, tokens, compared = self._compared(request)
        else:
            inputs = self._inputs(request, self._prompted(request))
            tokens = tuple(map(len, inputs))
        normalized = request.is_normalized
        return EncodingTask(
            request_id=request.id,
            purpose=request.purpose,
            inputs=tuple(inputs),
            tokens=tokens,
            compared=compared,
            dimensions=request.dimensions,
            is_normalized=self._loaded.encoding.is_normalized if normalized is None else normalized,
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            is_background=caller.is_background,
        )

    def _check_of_embeddings(self, request: EncodingRequest) -> None:
        """What has a meaning for embeddings alone."""
        info = self._loaded.encoding
        for param, value in (
            ("dimensions", request.dimensions),
            ("normalize", request.is_normalized),
        ):
            if value is not None and request.purpose is not EncodingPurpose.EMBEDDING:
                raise InvalidRequest(f"{param} is for embeddings", param=param)
        most = info.dimensions or 0
        if request.dimensions is not None and not 1 <= request.dimensions <= most:
            raise InvalidRequest(
                f"dimensions is {request.dimensions} and the embeddings of model {self._name!r} "
                f"have {most}; ask for 1 to {most}",
                param="dimensions",
            )
        name = request.prompt_name
        if name is None or request.may_lack_prompt or name in info.prompts:
            return
        raise InvalidRequest(
            f"model {self._name!r} has no prompt {name!r}; those that it has: "
            + (", ".join(info.prompts) or "none"),
            param="prompt_name",
        )

    def _prompted(self, request: EncodingRequest) -> list[EncodingInput | _Text]:
        """The inputs, texts with the prompt that the request names, or the model's default one."""
        files = self._loaded.files
        name = request.prompt_name or files.default_prompt
        prompt = None if name is None else files.prompt_for(name)
        return [_Text(each, prompt or "") if isinstance(each, str) else each
                for each in request.inputs]  # fmt: skip

    def _compared(
        self, request: EncodingRequest
    ) -> tuple[list[TokenInput], tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Each text once: queries and documents, with the model's prompts for them. What a pair
        costs is what no pair before it had."""
        files = self._loaded.files
        names = (name for name in DOCUMENT_PROMPTS if files.prompt_for(name) is not None)
        for_documents = files.prompt_for(next(names, "")) or ""
        for_queries = files.prompt_for(QUERY) or ""
        places: dict[_Text, int] = {}
        pairs: list[tuple[int, int]] = []
        owners: list[int] = []
        for number, pair in enumerate(request.inputs):
            assert isinstance(pair, TextPair), "it was checked"
            texts = (_Text(pair.query, for_queries), _Text(pair.document, for_documents))
            for text in texts:
                if text not in places:
                    places[text] = len(places)
                    owners.append(number)
            pairs.append((places[texts[0]], places[texts[1]]))
        inputs = self._inputs(request, list(places), owners)
        tokens = [0] * len(pairs)
        for owner, each in zip(owners, inputs, strict=True):
            tokens[owner] += len(each)
        return inputs, tuple(tokens), tuple(pairs)

    def _inputs(
        self,
        request: EncodingRequest,
        inputs: Sequence[EncodingInput | _Text],
        numbers: Sequence[int] | None = None,
    ) -> list[TokenInput]:
        """What the model reads of each; `numbers` are what errors call them."""
        tokenizer, texts = self._loaded.inputs, []
        for each in inputs:
            match each:
                case _Text(text, prompt):
                    texts.append(prompt + text)
                case TextPair(query, document):
                    texts += [query, document]
        encodings = iter(tokenizer.encode(texts))
        most = min(request.max_tokens or self._loaded.max_context, self._loaded.max_context)
        found = []
        for place, each in enumerate(inputs):
            number = place if numbers is None else numbers[place]
            found.append(self._read(number, each, encodings, most, request.truncation))
        return found

    def _read(
        self, number: int, each: EncodingInput | _Text, encodings: Any, most: int, cut: Truncation
    ) -> TokenInput:
        tokenizer = self._loaded.inputs
        if isinstance(each, tuple):
            made = TokenInput(self._ids(number, each, most, cut))
        else:
            first = next(encodings)
            second = next(encodings) if isinstance(each, TextPair) else None
            made = tokenizer.read(number, first, second, most, cut)
            if isinstance(each, _Text) and each.prompt and not self._loaded.files.pools_prompt:
                made = replace(made, num_unpooled=tokenizer.length_of_prompt(each.prompt))
        if not len(made):
            raise InvalidRequest(f"input {number} is empty; send at least one token", param="input")
        return made

    def _ids(self, number: int, ids: tuple[int, ...], most: int, cut: Truncation) -> array[int]:
        """Tokens are taken as they are: without a prompt, and with no special ones added."""
        self._loaded.tokenizer.check(ids, param="input")
        if len(ids) > most:
            if cut is Truncation.REFUSE:
                raise InputTooLong(number, len(ids), most)
            ids = ids[:most] if cut is Truncation.KEEP_START else ids[-most:]
        return array("i", ids)
