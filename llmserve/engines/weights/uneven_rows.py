"""4-bit weights of bitsandbytes with fewer rows than its kernel for AVX-512 takes at once, such as
the gates of a gated delta net, which have one for each head: it would fail at the first product, so
they are left to its other kernel."""

from __future__ import annotations

from typing import Any, Final

ROWS: Final = 32
_IS_FAST: Final = "support_avx512bf16_for_cpu"
"""What its layers call whether they use that kernel."""


def spare_uneven_rows(model: Any) -> None:
    """Let such layers of a loaded model do without that kernel."""
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None or not hasattr(module, _IS_FAST):
            continue
        rows, columns = state.shape
        if rows % ROWS or columns % state.blocksize:
            setattr(module, _IS_FAST, False)
