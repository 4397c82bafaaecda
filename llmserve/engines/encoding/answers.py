"""From the vectors of a request's inputs to its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmserve.domain import EncodingAnswer
from llmserve.engines.encoding.computation import Vectors
from llmserve.engines.encoding_task import EncodingTask

LEAST: Final = 1e-12
"""What a vector of nothing but zeros is divided by."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Makes the answers of one model; runs on the thread that computes.

    Attributes:
        model: its name.
        labels: of its classes.
        takes_several: whether an input may be of several classes at once.
    """

    model: str
    labels: tuple[str, ...] = ()
    takes_several: bool = False

    def of(self, task: EncodingTask, vectors: Vectors) -> EncodingAnswer:
        """`vectors` are those of the task's inputs, (inputs, width)."""
        if task.compared:
            made = _similarities(task, vectors)
        elif task.dimensions is not None or task.is_normalized:
            made = np.ascontiguousarray(vectors[:, : task.dimensions])
            made = _of_length_1(made) if task.is_normalized else made
        else:
            made = vectors
        return EncodingAnswer(
            self.model,
            tuple(row.data for row in made),
            task.tokens,
            self.labels,
            self.takes_several,
        )


def _of_length_1(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: Vectors = vectors / np.maximum(lengths, LEAST)
    return made


def _similarities(task: EncodingTask, vectors: Vectors) -> Vectors:
    """The cosine of the two embeddings of each pair, (pairs, 1)."""
    normed = _of_length_1(vectors)
    first, second = (normed[[pair[side] for pair in task.compared]] for side in (0, 1))
    cosines: Vectors = np.sum(first * second, axis=1, keepdims=True)
    return cosines
