"""Whether a key may have one more: the same sentences from every queue."""

from __future__ import annotations

from llmserve.errors import QuotaExceeded
from llmserve.jobs.batch import Kind
from llmserve.jobs.batch_file import BatchFile
from llmserve.jobs.queue import Quotas


def check_bytes(file: BatchFile, quotas: Quotas, all_bytes: int, key_bytes: int) -> None:
    """With so much in use already.

    Raises:
        QuotaExceeded: the file does not fit.
    """
    if key_bytes + file.charge > quotas.key_bytes:
        raise QuotaExceeded(
            f"the files of this key have {key_bytes:,} of {quotas.key_bytes:,} bytes, and "
            f"{file.size:,} more do not fit; delete some",
            param="file",
        )
    if all_bytes + file.charge > quotas.total_bytes:
        raise QuotaExceeded(
            f"this server's store of files is full: {all_bytes:,} of {quotas.total_bytes:,} "
            "bytes; try again later, or ask its operator for more",
            param="file",
        )


def check_batches(quotas: Quotas, kind: Kind, open_ones: int) -> None:
    """With so many open ones of this kind already.

    Raises:
        QuotaExceeded: the key has too many.
    """
    is_batch = kind is Kind.BATCH
    most = quotas.key_batches if is_batch else quotas.key_requests
    if open_ones >= most:
        what = "batches" if is_batch else "requests in the background"
        raise QuotaExceeded(
            f"this key has {open_ones:,} open {what}, and may have {most:,}; wait until one "
            "ends, or cancel one"
        )


def check_lines(quotas: Quotas, open_lines: int, more: int) -> None:
    """With so many lines in open batches already.

    Raises:
        QuotaExceeded: the key would have too many.
    """
    if open_lines + more > quotas.key_lines:
        raise QuotaExceeded(
            f"the open batches of this key have {open_lines:,} lines, and with {more:,} more they "
            f"would have over {quotas.key_lines:,}; wait until one ends, or send fewer lines"
        )
