"""The commit is repeated until every row is answered, and never again after that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from services.verifier.acceptance import Walk
from services.verifier.batch import Settlement
from services.verifier.committer import Asked, Committer, Inspected
from shared.errors import BusUnavailable
from shared.inference.blocks import BlockPool
from shared.records import CommitRow
from shared.replies import Commit, CommitStatus, Reseeded, ReseedStatus
from shared.telemetry import Telemetry, configure
from shared.tree import EMPTY
from tests.requests import generation

OK, SAME, ERROR = CommitStatus.OK, CommitStatus.SAME, CommitStatus.ERROR
MISSING, BEHIND, FENCED, CANCELLED = (
    CommitStatus.MISSING,
    CommitStatus.BEHIND,
    CommitStatus.FENCED,
    CommitStatus.CANCELLED,
)


class Scripted:
    """A bus that answers from a script; an exception in it is raised."""

    def __init__(self, *answers: Any, reseeds: Sequence[Any] = ()) -> None:
        self.answers, self.reseeds = list(answers), list(reseeds)
        self.given_up: list[str] = []
        self.sent: list[tuple[list[str], Asked | None]] = []
        self.restored: list[dict[str, Any]] = []

    def commit(
        self, rows: Sequence[CommitRow], asked: Asked | None, inspected: Sequence[Inspected] = ()
    ) -> tuple[Commit, bool]:
        self.sent.append(([row.epoch for row in rows], asked))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Commit(5000.0, tuple(answer)), True

    def give_up(self, request: str, *_: Any) -> None:
        self.given_up.append(request)

    def reseed(self, request: str, *_: Any, **told: Any) -> tuple[Reseeded, str]:
        self.restored.append(told)
        answer = self.reseeds.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reseeded(answer, 0, ""), f"new-{request[-1]}"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with configure("verifier", "test") as configured:
        yield configured


def settlements(count: int) -> list[Settlement]:
    made = []
    for number in range(1, count + 1):
        one = generation(BlockPool(8), number)
        digest = one.digest.hex()
        one.extend([7])
        row = CommitRow(
            request=one.id,
            epoch=one.epoch,
            start=3,
            start_digest=digest,
            end=4,
            end_digest=one.digest.hex(),
            tokens=b"\x07\0\0\0",
            event=b"",
        )
        made.append(Settlement(one, row, None, 0, Walk(EMPTY, 0, one.params, 3)))
    return made


def run(bus: Scripted, rows: list[Settlement], telemetry: Telemetry, asked: Any = None) -> tuple[Any, list[float]]:
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    return Committer(bus, telemetry, pause).commit(rows, asked), pauses


def test_the_first_commit_dates_the_first_token(telemetry: Telemetry) -> None:
    rows = settlements(2)
    committed, pauses = run(Scripted([OK, SAME]), rows, telemetry)
    assert [row.generation.first_token_ms for row in rows] == [5000.0, 5000.0]
    assert (committed.lost, pauses) == ([], [])


def test_a_request_is_restored_with_its_times(telemetry: Telemetry) -> None:
    [row] = settlements(1)
    row.generation.enqueued_ms = 4000.0
    for answer in ([OK], [MISSING], [OK]):
        bus = Scripted(answer, [OK], reseeds=[ReseedStatus.OK])
        run(bus, [row], telemetry)
        for told in bus.restored:
            times = {name: ms for name, ms in told.items() if name.endswith("_ms")}
            assert times == {"enqueued_ms": 4000.0, "first_token_ms": 5000.0, "last_token_ms": 5000.0}
            assert answer == [MISSING]


def test_after_a_connection_error_the_commit_alone_is_repeated(telemetry: Telemetry) -> None:
    asked = ("message", None, 0.0)
    bus = Scripted(BusUnavailable("gone"), BusUnavailable("gone"), [SAME])
    committed, pauses = run(bus, settlements(1), telemetry, asked)
    assert [sent for _, sent in bus.sent] == [asked, None, None]
    assert not committed.asked
    assert len(pauses) == 2


def test_refused_rows_are_held_and_tried_again(telemetry: Telemetry) -> None:
    bus = Scripted([OK, ERROR], [OK])
    committed, _ = run(bus, settlements(2), telemetry)
    assert [len(epochs) for epochs, _ in bus.sent] == [2, 1]
    assert committed.lost == []


@pytest.mark.parametrize("status", [FENCED, CANCELLED])
def test_rows_of_others_are_lost_and_not_repeated(telemetry: Telemetry, status: CommitStatus) -> None:
    rows = settlements(2)
    committed, _ = run(Scripted([status, OK]), rows, telemetry)
    assert committed.lost == rows[:1]


@pytest.mark.parametrize("status", [MISSING, BEHIND])
def test_what_redis_forgot_is_restored_and_committed_under_the_new_epoch(
    telemetry: Telemetry, status: CommitStatus
) -> None:
    bus = Scripted([status], [OK], reseeds=[ReseedStatus.OK])
    rows = settlements(1)
    committed, _ = run(bus, rows, telemetry)
    assert bus.sent[1][0] == ["new-1"]
    assert rows[0].generation.epoch == "new-1"
    assert committed.lost == []


@pytest.mark.parametrize("status", [ReseedStatus.FENCED, ReseedStatus.TERMINAL, ReseedStatus.UNNEEDED])
def test_what_is_not_ours_to_restore_is_lost(telemetry: Telemetry, status: ReseedStatus) -> None:
    rows = settlements(1)
    committed, _ = run(Scripted([MISSING], reseeds=[status]), rows, telemetry)
    assert committed.lost == rows


def test_a_restored_row_keeps_its_new_epoch_when_another_reseed_fails(telemetry: Telemetry) -> None:
    bus = Scripted(
        [MISSING, MISSING],
        [OK, MISSING],
        [OK],
        reseeds=[ReseedStatus.OK, BusUnavailable("gone"), ReseedStatus.OK],
    )
    rows = settlements(2)
    committed, _ = run(bus, rows, telemetry)
    assert bus.sent[1][0] == ["new-1", rows[1].row.epoch]
    assert committed.lost == []


def test_one_refused_row_is_given_up_before_it_holds_the_others_for_ever(telemetry: Telemetry) -> None:
    rows = settlements(2)
    bus = Scripted([OK, ERROR], *[[ERROR]] * 7)
    committed, _ = run(bus, rows, telemetry)
    assert committed.lost == rows[1:]
    assert bus.given_up == [rows[1].row.request]


def test_a_server_that_refuses_everything_is_waited_for(telemetry: Telemetry) -> None:
    bus = Scripted(*[[ERROR, ERROR]] * 20, [OK, OK])
    committed, _ = run(bus, settlements(2), telemetry)
    assert committed.lost == []


def test_a_process_that_is_to_stop_gives_up(telemetry: Telemetry) -> None:
    bus = Scripted(BusUnavailable("gone"))
    with pytest.raises(BusUnavailable, match="uncommitted"):
        Committer(bus, telemetry, lambda _: False).commit(settlements(1), None)
