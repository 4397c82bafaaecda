"""The device as a thread uses it: on a machine without one, by what torch would do."""

from __future__ import annotations

import pytest
import torch

from llmserve.engines import accelerator
from llmserve.engines.accelerator import answers, as_device_loss, make_current
from llmserve.engines.failure import release_memory
from llmserve.errors import DeviceLost

CUDA = torch.device("cuda:1")


def test_a_cpu_always_answers_and_is_nobodys_own() -> None:
    assert answers(torch.device("cpu"))
    make_current(torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "is_alive"),
    [
        (None, True),
        (torch.OutOfMemoryError("no room for four bytes"), True),
        (torch.AcceleratorError("an illegal memory access was encountered"), False),
        (RuntimeError("Triton Error [CUDA]: unspecified launch failure"), False),
    ],
)
def test_a_device_is_asked_by_a_tiny_operation(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, is_alive: bool
) -> None:
    def ones(count: int, device: torch.device) -> torch.Tensor:
        assert device == CUDA
        if error is not None:
            raise error
        return torch.tensor([1.0])

    monkeypatch.setattr(accelerator.torch, "ones", ones)
    assert answers(CUDA) is is_alive


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_a_load_raises_is_told_as_a_loss_if_the_device_is_silent_after_it(
    monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    monkeypatch.setattr(accelerator, "answers", lambda device: is_alive)
    expected, words = (
        (RuntimeError, "an illegal")
        if is_alive
        else (DeviceLost, r"cuda:1 no longer answers \(RuntimeError: an illegal")
    )
    with pytest.raises(expected, match=f"^{words}"), as_device_loss(CUDA):
        raise RuntimeError("an illegal memory access was encountered")
    with pytest.raises(DeviceLost, match=r"^told already"), as_device_loss(CUDA):
        raise DeviceLost("told already")


def test_a_gpu_is_made_current(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    make_current(CUDA)
    assert current == [CUDA]


def test_memory_is_given_back_without_a_word_to_a_device_that_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> None:
        raise torch.AcceleratorError("device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    release_memory()
