"""Numbers equal to those of sentence-transformers and transformers, on random models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from tiny_encoders import FAMILIES, TEXTS, dense, save_encoder, save_transformer

from llmserve.domain import (
    Caller,
    EncodingAnswer,
    EncodingInput,
    EncodingPurpose,
    EncodingRequest,
    EncodingSpec,
    ModelSpec,
    TextPair,
    Truncation,
)
from llmserve.engines.encoding.answers import Answers
from llmserve.engines.encoding.computation import EncoderComputation
from llmserve.engines.encoding.files import POOLINGS
from llmserve.engines.encoding.loading import load_encoder
from llmserve.engines.encoding.packing import packing_for
from llmserve.engines.encoding.task_builder import EncodingTaskBuilder
from llmserve.engines.encoding_task import EncodingTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]

PAIRS = (
    ("the fox", "what will the little fox do tomorrow in the wood over the hill?"),
    ("the fox", "Rain!"),
    ("how do I warm a model before the first request comes", ""),
)


Matrix = np.ndarray[Any, Any]


class Ours:
    """A model as the engine computes it, in one batch."""

    def __init__(self, folder: Path, *, is_packed: bool = False, **spec: Any) -> None:
        made = ModelSpec("m", path=folder, **spec)
        self.loaded = load_encoder(made, folder, lambda progress: None)
        packing = packing_for(self.loaded) if is_packed else None
        assert not is_packed or packing is not None, "it cannot be packed"
        self._computation = EncoderComputation(self.loaded, packing)
        self._builder = EncodingTaskBuilder("m", self.loaded)

    def ask(
        self,
        inputs: Sequence[EncodingInput],
        purpose: EncodingPurpose = EncodingPurpose.EMBEDDING,
        **fields: Any,
    ) -> EncodingAnswer:
        task = self.task(inputs, purpose, **fields)
        return Answers("m").of(task, self._computation.compute(task.inputs).vectors)

    def task(
        self,
        inputs: Sequence[EncodingInput],
        purpose: EncodingPurpose = EncodingPurpose.EMBEDDING,
        **fields: Any,
    ) -> EncodingTask:
        request = EncodingRequest("r", tuple(inputs), purpose, **fields)
        self._builder.check(request)
        return self._builder.build(request, Caller(), 1e9)

    def vectors(self, inputs: Sequence[EncodingInput] = TEXTS, **fields: Any) -> Matrix:
        return matrix(self.ask(inputs, **fields))


def matrix(answer: EncodingAnswer) -> Matrix:
    return np.array([list(vector) for vector in answer.vectors])


def theirs(folder: Path, texts: Sequence[str] = TEXTS, **options: Any) -> Matrix:
    return np.asarray(
        SentenceTransformer(str(folder), device="cpu").encode(list(texts), batch_size=4, **options)
    )


def assert_equal(ours: Matrix, wanted: Matrix) -> None:
    assert ours.shape == wanted.shape
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((ours * wanted).sum(axis=1) / lengths).min() >= 0.99999
    np.testing.assert_allclose(ours, wanted, atol=2e-5, rtol=1e-4)
    assert np.abs(wanted[0] - wanted[2]).max() > 0.01, "the model tells nothing apart"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(tmp_path: Path, family: str) -> None:
    pooling = "lasttoken" if family == "qwen3" else "mean"
    folder = save_encoder(tmp_path, family, pooling=pooling)
    ours = Ours(folder)
    assert ours.loaded.max_context == 64
    assert_equal(ours.vectors(), theirs(folder))


PACKED = ("bert", "distilbert", "qwen3", "roberta", "xlm-roberta")


@pytest.mark.parametrize("family", FAMILIES)
def test_without_padding_where_a_family_can_be_packed(tmp_path: Path, family: str) -> None:
    folder = save_encoder(tmp_path, family, pooling=["mean", "lasttoken", "weightedmean"])
    if family not in PACKED:
        assert packing_for(Ours(folder).loaded) is None
        return
    texts = [*TEXTS, *TEXTS]
    ours = Ours(folder, is_packed=True)
    assert_equal(ours.vectors(texts), theirs(folder, texts))
    assert_equal(Ours(folder).vectors(texts), ours.vectors(texts))


@pytest.mark.parametrize(
    "pooling", [*POOLINGS, ("cls", "max", "mean"), ("weightedmean", "lasttoken")]
)
def test_every_pooling(tmp_path: Path, pooling: str | tuple[str, ...]) -> None:
    folder = save_encoder(tmp_path, pooling=pooling, is_normalized=True)
    assert_equal(Ours(folder).vectors(), theirs(folder))


def test_last_tokens_wherever_they_pad(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "qwen3", pooling="lasttoken", is_normalized=True)
    assert_equal(Ours(folder).vectors(), theirs(folder))


def test_modules_after_pooling(tmp_path: Path) -> None:
    norm = {
        "type": "LayerNorm",
        "config": {"dimension": 24},
        "weights": {"norm.weight": torch.rand(24), "norm.bias": torch.rand(24)},
    }
    folder = save_encoder(
        tmp_path, "gemma3", modules=[dense(32, 48, "Identity"), dense(48, 24), norm]
    )
    ours = Ours(folder)
    assert ours.loaded.encoding.dimensions == 24
    assert_equal(ours.vectors(), theirs(folder))


def test_prompts_and_the_default_one(tmp_path: Path) -> None:
    prompts = {"query": "what is: ", "document": "a fox: "}
    folder = save_encoder(tmp_path, prompts=prompts, default_prompt="document")
    ours = Ours(folder)
    assert_equal(ours.vectors(), theirs(folder))
    assert_equal(ours.vectors(prompt_name="query"), theirs(folder, prompt_name="query"))
    plain = ours.vectors(prompt_name="none", may_lack_prompt=True)
    assert_equal(plain, theirs(folder, prompt=""))


@pytest.mark.parametrize("pooling", ["mean", "cls", "weightedmean", "max"])
def test_prompts_that_are_not_pooled(tmp_path: Path, pooling: str) -> None:
    folder = save_encoder(
        tmp_path, pooling=pooling, prompts={"query": "what is: "}, include_prompt=False
    )
    ours = Ours(folder).vectors(prompt_name="query")
    assert_equal(ours, theirs(folder, prompt_name="query"))


def test_truncation(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, max_tokens=12)
    ours = Ours(folder)
    start = ours.vectors(truncation=Truncation.KEEP_START)
    assert_equal(start, theirs(folder))
    words = TEXTS[2].split()
    end = ours.vectors([TEXTS[2]], truncation=Truncation.KEEP_END, max_tokens=6)
    np.testing.assert_allclose(end, theirs(folder, [" ".join(words[-4:])]), atol=1e-5)


def test_dimensions_and_length(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    ours = Ours(folder)
    wanted = theirs(folder)
    assert_equal(ours.vectors(dimensions=8), wanted[:, :8])
    short = wanted[:, :8] / np.linalg.norm(wanted[:, :8], axis=1, keepdims=True)
    assert_equal(ours.vectors(dimensions=8, is_normalized=True), short)


def test_a_model_that_normalizes_does_so_after_dimensions_and_can_be_told_not_to(
    tmp_path: Path,
) -> None:
    normed = save_encoder(tmp_path / "normed", is_normalized=True)
    raw = save_encoder(tmp_path / "raw")
    ours = Ours(normed)
    np.testing.assert_allclose(np.linalg.norm(ours.vectors(dimensions=4), axis=1), 1, atol=1e-6)
    assert_equal(ours.vectors(is_normalized=False), theirs(raw))


def test_a_plain_encoder_is_pooled_by_its_mean_or_as_its_operator_says(tmp_path: Path) -> None:
    folder = save_transformer(tmp_path)
    ours = Ours(folder)
    assert_equal(ours.vectors(), theirs(folder))
    assert "mean" in ours.loaded.warnings[0]
    cls = Ours(folder, encoding=EncodingSpec(pooling=("cls",), is_normalized=True))
    tokens = [ours.loaded.tokenizer.encode(text) for text in TEXTS]
    hidden = [ours.loaded.model(torch.tensor([ids])).last_hidden_state[0, 0] for ids in tokens]
    wanted = torch.nn.functional.normalize(torch.stack(hidden), dim=-1)
    assert_equal(cls.vectors(), wanted.detach().numpy())
    assert cls.loaded.warnings == ()


def test_tokens_are_as_good_as_their_text(tmp_path: Path) -> None:
    ours = Ours(save_encoder(tmp_path))
    ids = [tuple(ours.loaded.tokenizer.encode(text)) for text in TEXTS]
    assert_equal(ours.vectors(ids), ours.vectors())


def test_other_dtypes_are_near(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, is_normalized=True)
    wanted = theirs(folder)
    for dtype in ("bfloat16", "float16"):
        ours = Ours(folder, dtype=dtype)
        assert ours.loaded.dtype == dtype
        assert ((ours.vectors() * wanted).sum(axis=1)).min() > 0.99


def test_similarities_are_cosines_of_queries_and_documents(tmp_path: Path) -> None:
    prompts = {"query": "what is: ", "document": "a fox: "}
    folder = save_encoder(tmp_path, prompts=prompts)
    ours = Ours(folder)
    pairs = [TextPair(*pair) for pair in PAIRS]
    answer = ours.ask(pairs, EncodingPurpose.SCORE)
    model = SentenceTransformer(str(folder), device="cpu")
    queries = model.encode_query([query for query, _ in PAIRS])
    documents = model.encode_document([document for _, document in PAIRS])
    wanted = model.similarity_pairwise(queries, documents).numpy()
    np.testing.assert_allclose(matrix(answer)[:, 0], wanted, atol=1e-5)
    task = ours.task(pairs, EncodingPurpose.SCORE)
    assert len(task.inputs) == 5  # two queries, three documents
    assert sum(answer.tokens) == sum(map(len, task.inputs))


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "distilbert", "qwen3"])
def test_a_cross_encoder(tmp_path: Path, family: str) -> None:
    folder = save_transformer(
        tmp_path, family, transformers.AutoModelForSequenceClassification, num_labels=1
    )
    wanted = CrossEncoder(str(folder), device="cpu").predict([list(p) for p in PAIRS], batch_size=2)
    answer = Ours(folder).ask([TextPair(*pair) for pair in PAIRS], EncodingPurpose.SCORE)
    np.testing.assert_allclose(matrix(answer)[:, 0], wanted, atol=1e-5)
    assert np.ptp(wanted) > 0.001


def test_a_cross_encoder_s_own_activation_and_truncation(tmp_path: Path) -> None:
    folder = save_transformer(
        tmp_path,
        model=transformers.AutoModelForSequenceClassification,
        num_labels=1,
        sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"},
    )
    pairs = [(TEXTS[2], "Rain! " * 70), (TEXTS[2] * 3, TEXTS[2] * 3), ("fox", TEXTS[2] * 9)]
    wanted = CrossEncoder(str(folder), device="cpu").predict([list(pair) for pair in pairs])
    answer = Ours(folder).ask(
        [TextPair(*pair) for pair in pairs],
        EncodingPurpose.SCORE,
        truncation=Truncation.KEEP_START,
    )
    assert answer.tokens == (64, 64, 64)
    np.testing.assert_allclose(matrix(answer)[:, 0], wanted, atol=1e-5)


def test_a_cross_encoder_as_sentence_transformers_saves_it(tmp_path: Path) -> None:
    plain = save_transformer(
        tmp_path / "plain", model=transformers.AutoModelForSequenceClassification, num_labels=1
    )
    model = CrossEncoder(str(plain), device="cpu", activation_fn=torch.nn.Identity())
    model.save_pretrained(str(tmp_path / "saved"))
    answer = Ours(tmp_path / "saved").ask([TextPair(*p) for p in PAIRS], EncodingPurpose.SCORE)
    wanted = model.predict([list(pair) for pair in PAIRS])
    np.testing.assert_allclose(matrix(answer)[:, 0], wanted, atol=1e-5)


def test_as_sentence_transformers_saves_an_encoder(tmp_path: Path) -> None:
    model = SentenceTransformer(str(save_encoder(tmp_path / "ours", is_normalized=True)))
    model.save_pretrained(str(tmp_path / "saved"))
    assert_equal(Ours(tmp_path / "saved").vectors(), model.encode(list(TEXTS)))


@pytest.mark.parametrize("takes_several", [False, True])
def test_a_classifier(tmp_path: Path, takes_several: bool) -> None:
    labels = {0: "joy", 1: "anger", 2: "fear"}
    folder = save_transformer(
        tmp_path,
        model=transformers.AutoModelForSequenceClassification,
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
        problem_type="multi_label_classification" if takes_several else None,
    )
    ours = Ours(folder)
    assert ours.loaded.encoding.labels == ("joy", "anger", "fear")
    assert ours.loaded.takes_several is takes_several
    logits = torch.from_numpy(matrix(ours.ask(TEXTS, EncodingPurpose.CLASSIFICATION)))
    shares = logits.sigmoid() if takes_several else logits.softmax(-1)
    pipeline = transformers.pipeline("text-classification", str(folder), device="cpu")
    for text, row in zip(TEXTS, shares.tolist(), strict=True):
        wanted = {each["label"]: each["score"] for each in pipeline(text, top_k=None)}
        assert dict(zip(labels.values(), row, strict=True)) == pytest.approx(wanted, abs=1e-5)
    pair = matrix(ours.ask([TextPair("the fox", "Rain!")], EncodingPurpose.CLASSIFICATION))
    encoded = ours.loaded.tokenizer.hf("the fox", "Rain!", return_tensors="pt")
    np.testing.assert_allclose(pair, ours.loaded.model(**encoded).logits.detach(), atol=1e-5)
