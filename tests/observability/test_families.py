"""From values to families: sums that neither order nor rounding can make fall."""

from __future__ import annotations

from itertools import permutations

from prometheus_client.mmap_dict import mmap_key

from llmserve.observability.families import families


def bucket(le: str, model: str = "m") -> str:
    return mmap_key("h", "h_bucket", ["model", "le"], [model, le], "Text.")


def test_a_sum_does_not_depend_on_whose_file_comes_first() -> None:
    key = mmap_key("s", "s_sum", [], [], "Text.")
    sums = {
        next(iter(families({"summary": {key: parts}}))).samples[0].value
        for parts in permutations([0.9, 0.9, 0.9, 1e16])
    }
    assert len(sums) == 1


def test_a_histogram_that_is_being_made_has_what_is_there() -> None:
    key = mmap_key("h", "h_sum", ["model"], ["m"], "Text.")
    (family,) = families({"histogram": {key: [0.0]}})
    assert [(s.name, s.value) for s in family.samples] == [("h_sum", 0.0)]


def test_buckets_are_cumulated_by_size_and_for_each_label() -> None:
    keys = {bucket("+Inf"): [1.0], bucket("10.0"): [2.0, 1.0], bucket("5.0"): [4.0],
            bucket("5.0", "other"): [9.0]}  # fmt: skip
    (family,) = families({"histogram": keys})
    assert [(s.name, s.labels.get("le"), s.value) for s in family.samples] == [
        ("h_bucket", "5.0", 4.0),
        ("h_bucket", "10.0", 7.0),
        ("h_bucket", "+Inf", 8.0),
        ("h_count", None, 8.0),
        ("h_bucket", "5.0", 9.0),
        ("h_count", None, 9.0),
    ]
