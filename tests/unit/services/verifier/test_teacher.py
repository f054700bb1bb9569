"""Labels in a whole ring of table models: counted, shared, and used (services/verifier/teacher.py)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import numpy as np
import pytest
from redis import Redis

from services.verifier.bus import VerifierBus
from services.verifier.teacher import DOUBTED_SHARE, Teacher
from shared import signals
from shared.label_store import read_labels, unpack_labels
from shared.labels import LabelCounts
from shared.scripts import load_library
from shared.telemetry import Telemetry, configure
from shared.tokenizer import load_tokenizer
from shared.topics import CALIBRATION_TTL_S, Keys
from tests.requests import request
from tests.ring import TableRing
from tests.tiny_tokenizers import byte_level, save

PAIR = "draft:table"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with configure("verifier", "test") as configured:
        yield configured


@pytest.fixture
def ring(
    redis_url: str, redis_client: Redis, keys: Keys, telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory
) -> TableRing:
    tokenizer = load_tokenizer(str(save(byte_level(), tmp_path_factory.mktemp("tokenizer"))))
    return TableRing(redis_url, redis_client, keys, telemetry, tokenizer, noise=0.5)


def metric(telemetry: Telemetry, name: str) -> float:
    found = re.search(rf"^adaserve_{re.escape(name)} (\S+)$", telemetry.prometheus().decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_a_ring_labels_its_draft_and_reports_it(ring: TableRing, telemetry: Telemetry) -> None:
    for number in range(1, 9):
        ring.submit(request(number, temperature=[0.0, 1.0][number % 2], max_tokens=60, ignore_eos=True))
    ring.run()
    ring.wait(1000.0)
    ring.turn()
    counts = unpack_labels(read_labels(ring.client, ring.keys, PAIR))
    assert counts.num_labels == metric(telemetry, "draft_labels_total") > 100
    assert counts.accepted.sum() == metric(telemetry, "accepted_realised_total") > 50
    assert set(np.flatnonzero(counts.labels.any(axis=(1, 2)))) == {0, 4}
    by_depth = list(zip(signals.DEPTHS, *counts.by_depth, strict=True))
    for depth, labels, accepted in by_depth:
        name = f'draft_edges_total{{depth="{depth}",outcome='
        assert metric(telemetry, f'{name}"accepted"}}') == accepted
        assert metric(telemetry, f'{name}"rejected"}}') == labels - accepted
    drafted = metric(telemetry, "draft_tokens_accepted_total") + metric(telemetry, "tokens_wasted_total")
    assert drafted > counts.num_labels > 0
    assert metric(telemetry, "draft_trees_total") >= by_depth[0][2] > 0
    assert 0 < int(ring.client.ttl(ring.keys.calibration(PAIR))) <= CALIBRATION_TTL_S
    for kind in ("raw", "calibrated"):
        assert metric(telemetry, f'accepted_expected_total{{kind="{kind}"}}') > 0
        assert 0 < metric(telemetry, f'brier_score{{kind="{kind}"}}') < 1
    raw, calibrated = (metric(telemetry, f'calibration_error{{kind="{kind}"}}') for kind in ("raw", "calibrated"))
    assert calibrated < raw


def test_a_ban_below_the_minimum_length_keeps_a_request_out(ring: TableRing) -> None:
    ring.submit(request(1, max_tokens=30, min_tokens=30, stop_token_ids=(3,), ignore_eos=True))
    ring.run()
    ring.wait(1000.0)
    ring.turn()
    assert read_labels(ring.client, ring.keys, PAIR) == {}


def counted(number: int) -> LabelCounts:
    column = np.zeros(number, np.int64)
    return LabelCounts.of(column, column + 1, np.full(number, -0.5, np.float32), np.ones(number, np.bool_))


def test_all_verifiers_of_a_pair_add_to_one_estimate(redis_client: Redis, keys: Keys) -> None:
    load_library(redis_client)
    left, right = (VerifierBus(redis_client, redis_client, keys, name) for name in ("v.1", "v.2"))
    left.exchange_labels(PAIR, counted(3))
    assert unpack_labels(right.exchange_labels(PAIR, counted(4))).num_labels == 7
    assert unpack_labels(left.exchange_labels(PAIR, counted(0))).num_labels == 7
    assert left.exchange_labels("other:table", counted(0)) == {}


def test_what_is_doubted_gives_way_to_new_labels(redis_client: Redis, keys: Keys, telemetry: Telemetry) -> None:
    load_library(redis_client)
    bus = VerifierBus(redis_client, redis_client, keys, "v.1", max_labels=320)
    teacher = Teacher(bus, telemetry)
    teacher._turn_to(PAIR)

    def known_after(new: int, *, is_doubted: bool) -> float:
        teacher._new = counted(new)
        teacher.exchange(is_doubted=is_doubted)
        return unpack_labels(teacher._packed).num_labels

    assert known_after(300, is_doubted=False) == 300
    assert known_after(10, is_doubted=True) <= 320 * DOUBTED_SHARE
    assert known_after(200, is_doubted=False) > 200


def test_unreadable_counts_are_the_identity(
    redis_client: Redis, keys: Keys, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.hset(keys.calibration(PAIR), "0", b"rubbish")
    teacher = Teacher(VerifierBus(redis_client, redis_client, keys, "v.1"), telemetry)
    teacher._turn_to(PAIR)
    with caplog.at_level(logging.WARNING):
        teacher.exchange()
        teacher.exchange()
    assert [record.message for record in caplog.records if "not used" in record.message] != []
    assert len(caplog.records) == 1
