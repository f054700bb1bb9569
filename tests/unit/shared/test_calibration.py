"""Calibrated probabilities (shared/labels.py, regression.py, calibration.py, reliability.py), by property."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.calibration import Calibration
from shared.errors import UnreadableMessage
from shared.labels import (
    BIN_CENTERS,
    MAX_CALIBRATED_DEPTH,
    NUM_BINS,
    NUM_BUCKETS,
    PACKED_BYTES,
    SHAPE,
    LabelCounts,
    bins,
)
from shared.regression import fit_scaling, isotonic, sigmoid
from shared.reliability import RAW, brier_score, calibration_error, expected_accepted
from shared.tree import Forest, TokenTree
from tests.strategies import trees

PROBABILITIES = np.concatenate([np.geomspace(1e-7, 0.5, 200), 1 - np.geomspace(0.5, 1e-7, 200)])
LOGPROBS = np.unique(np.log(PROBABILITIES).astype(np.float32))  # rising


@st.composite
def label_counts(draw: st.DrawFn) -> LabelCounts:
    """Anything that could have been counted, from nothing to a lot in few cells."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0, 1, 10, 1_000, 1_000_000]))
    labels = np.floor(
        size * chance.random(SHAPE) ** 4 * (chance.random(SHAPE) < draw(st.sampled_from([0.01, 0.5])))
    )
    accepted = np.floor(labels * chance.random(SHAPE) ** draw(st.sampled_from([0.1, 1.0, 10.0])))
    return LabelCounts(labels, accepted)


def drawn(
    scale: float, bias: float, count: int, *, bucket: int = 0, depth: int = 1, seed: int = 0
) -> tuple[LabelCounts, Any]:
    """Labels of a draft whose logits are distorted by scale and bias; and the true acceptance of its q."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0.0, 2.5, count)
    truth = sigmoid(scale * logits + bias)
    edges = np.log(sigmoid(logits)).astype(np.float32)
    column = np.full(count, depth)
    return LabelCounts.of(np.full(count, bucket), column, edges, chance.random(count) < truth), (edges, truth)


def at(calibration: Calibration, bucket: int, depth: int, logprobs: Any = LOGPROBS) -> Any:
    """Calibrated probabilities of raw edge log-probabilities."""
    shape = len(logprobs)
    return np.exp(calibration.edges(logprobs, np.full(shape, depth), np.full(shape, bucket)).astype(np.float64))


@settings(max_examples=40)
@given(counts=label_counts(), depth=st.integers(1, 64), bucket=st.integers(0, 255))
def test_probabilities_rise_with_the_draft_and_are_never_certain(
    counts: LabelCounts, depth: int, bucket: int
) -> None:
    calibrated = at(Calibration.fit(counts), bucket, depth)
    assert (calibrated > 0).all()
    assert (calibrated < 1).all()
    assert (np.diff(calibrated) >= -1e-6).all()


@given(bucket=st.integers(0, 8), depth=st.integers(1, 8))
def test_without_labels_nothing_is_changed_but_certainty(bucket: int, depth: int) -> None:
    calibrated = at(Calibration.fit(LabelCounts.none()), bucket, depth)
    assert np.allclose(calibrated, np.exp(LOGPROBS), atol=1.1e-4)


def test_a_few_labels_change_little() -> None:
    counts, _ = drawn(0.3, -1.5, 5)
    assert np.abs(at(Calibration.fit(counts), 0, 1) - np.exp(LOGPROBS)).max() < 0.15


@pytest.mark.parametrize(("scale", "bias"), [(0.5, -0.7), (1.0, 0.0), (2.0, 0.5), (0.8, 1.5)])
def test_a_known_distortion_is_recovered(scale: float, bias: float) -> None:
    counts, (edges, truth) = drawn(scale, bias, 20_000, bucket=3, depth=2)
    assert np.abs(at(Calibration.fit(counts), 3, 2, edges) - truth).mean() < 0.02
    scaling = fit_scaling(counts)
    assert scaling.scale[3, 1] == pytest.approx(scale, rel=0.1)
    assert scaling.bias[3, 1] == pytest.approx(bias, abs=0.1)


def test_a_kink_that_no_scaling_makes_is_corrected() -> None:
    """Greedy targets accept nearly always above one half and hardly ever below."""
    chance = np.random.default_rng(1)
    logits = chance.normal(0.0, 2.0, 20_000)
    truth = np.where(logits > 0, 0.85, 0.1)
    ones = np.ones(len(logits), np.int64)
    counts = LabelCounts.of(
        0 * ones, ones, np.log(sigmoid(logits)).astype(np.float32), chance.random(len(logits)) < truth
    )
    calibrated = Calibration.fit(counts).probabilities()
    assert calibration_error(counts, calibrated) < 0.02
    assert calibration_error(counts, calibrated) < calibration_error(counts, RAW) / 5
    assert brier_score(counts, calibrated) < brier_score(counts, RAW)


def test_buckets_without_labels_follow_their_neighbours_and_depths_their_bucket() -> None:
    counts, _ = drawn(0.5, -1.0, 20_000, bucket=4, depth=1)
    calibration = Calibration.fit(counts)
    raw, learned = np.exp(LOGPROBS), at(calibration, 4, 1)
    for bucket, depth in [(4, 7), (3, 1), (5, 3)]:
        assert np.abs(at(calibration, bucket, depth) - learned).mean() < np.abs(raw - learned).mean() / 3


def test_buckets_with_labels_do_not_mix() -> None:
    sober, _ = drawn(1.0, 0.0, 20_000, bucket=4)
    biased, _ = drawn(1.0, -3.0, 20_000, bucket=5)
    calibration = Calibration.fit(sober + biased)
    assert np.abs(at(calibration, 4, 1) - np.exp(LOGPROBS)).mean() < 0.01


@given(tree=st.lists(trees(max_nodes=30), max_size=4), counts=label_counts(), data=st.data())
def test_paths_are_products_of_their_edges_and_never_rise(
    tree: list[TokenTree], counts: LabelCounts, data: st.DataObject
) -> None:
    calibration = Calibration.fit(counts)
    buckets = np.array(data.draw(st.lists(st.integers(0, 8), min_size=len(tree), max_size=len(tree))), np.uint8)
    offsets = np.cumsum([0, *map(len, tree)])
    columns = [
        np.concatenate([np.empty(0, t), *(getattr(one, n) for one in tree)])
        for n, t in [("parents", np.int16), ("logprobs", np.float32)]
    ]
    found = calibration.paths(Forest.of(offsets, columns[0]), columns[1], buckets)
    assert found.dtype == np.float32
    for row, one in enumerate(tree):
        paths = found[offsets[row] : offsets[row + 1]]
        for node, parent in enumerate(one.parents.tolist()):
            above = 0.0 if parent < 0 else float(paths[parent])
            raw = np.float32(one.logprobs[node] - (np.float32(0) if parent < 0 else one.logprobs[parent]))
            [edge] = calibration.edges(np.array([raw]), one.depths()[node : node + 1], buckets[row : row + 1])
            assert paths[node] <= above
            assert paths[node] == pytest.approx(above + float(edge), rel=1e-5, abs=1e-5)


def test_impossible_nodes_stay_impossible() -> None:
    calibration = Calibration.fit(LabelCounts.none())
    forest = Forest.of(np.array([0, 4]), np.array([-1, 0, 1, -1], np.int16))
    found = calibration.paths(forest, np.array([-np.inf, -1.0, -np.inf, 3e38], np.float32), np.zeros(1, np.uint8))
    assert found[0] == -np.inf
    assert np.isneginf(found[1]) or np.isnan(found[1])
    assert np.isneginf(found[2]) or np.isnan(found[2])
    assert -1e-3 < found[3] < 0


@given(label_counts(), label_counts())
def test_counts_merge_and_survive_packing(left: LabelCounts, right: LabelCounts) -> None:
    merged = left + right
    assert merged.num_labels == left.num_labels + right.num_labels
    back = LabelCounts.unpack(merged.pack())
    assert (back.labels == merged.labels).all()
    assert (back.accepted == merged.accepted).all()
    assert ((merged - left).accepted == right.accepted).all()


def test_every_label_is_counted_once_in_its_cell() -> None:
    edges = np.log(np.array([0.51, 0.9, 1e-9, 1.0, 0.51], np.float32))
    counts = LabelCounts.of(
        np.array([0, 8, 0, 0, 200]), np.array([1, 3, 99, 2, 1]), edges, np.array([True, False, True, False, False])
    )
    assert counts.num_labels == 5
    assert counts.accepted.sum() == 2
    middle = NUM_BINS // 2
    assert counts.accepted[0, 0, middle] == 1
    assert counts.labels[8, 2, int((np.log(9) + 8) * 2)] == 1
    assert counts.accepted[0, MAX_CALIBRATED_DEPTH - 1, 0] == 1
    assert counts.labels[0, 1, NUM_BINS - 1] == 1
    assert counts.labels[NUM_BUCKETS - 1, 0, middle] == 1


def test_bins_are_found_from_log_probabilities_even_odd_ones() -> None:
    assert bins(np.log(sigmoid(BIN_CENTERS)).astype(np.float32)).tolist() == list(range(NUM_BINS))
    assert bins(np.array([-np.inf, np.nan, 0.5], np.float32)).tolist() == [0, 0, NUM_BINS - 1]


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        ({9: bytes(PACKED_BYTES)}, "bucket 9"),
        ({0: b"1234"}, "bytes"),
        ({0: np.ones(PACKED_BYTES // 4, "<f4").tobytes()[:-4] + np.float32(np.nan).tobytes()}, "impossible"),
        ({1: np.full(PACKED_BYTES // 4, -1, "<f4").tobytes()}, "impossible"),
        ({2: np.arange(PACKED_BYTES // 4, dtype="<f4").tobytes()}, "impossible"),
    ],
)
def test_counts_that_cannot_be_are_refused(packed: dict[int, bytes], reason: str) -> None:
    with pytest.raises(UnreadableMessage, match=reason):
        LabelCounts.unpack(packed)


def pooled(values: list[float], weights: list[float]) -> list[float]:
    """Isotonic regression as it is taught: pool adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, v, m), (b, w, n) = blocks[-2:]
            blocks[-2:] = [((a * v + b * w) / (v + w), v + w, m + n)]
    return [value for value, _, count in blocks for _ in range(count)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=20))
def test_isotonic_regression_pools_violators(pairs: list[tuple[float, float]]) -> None:
    values, weights = (list(column) for column in zip(*pairs, strict=True))
    assert isotonic(np.array(values), np.array(weights)) == pytest.approx(pooled(values, weights), abs=1e-6)


def test_figures_by_hand() -> None:
    counts = LabelCounts.none()
    assert (calibration_error(counts, RAW), brier_score(counts, RAW)) == (0.0, 0.0)
    half = np.full(SHAPE, 0.5)
    counts.labels[0, 0, :2] = 10
    counts.accepted[0, 0, :2] = [8, 6]
    assert calibration_error(counts, half) == pytest.approx(0.2)
    assert brier_score(counts, half) == pytest.approx(0.25)
    assert expected_accepted(counts, half) == 10
