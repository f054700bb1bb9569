"""The worker loop on a real server: folding, dropping, draining, and a Redis that goes away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from redis import Redis

from shared.errors import BusUnavailable
from shared.functions import Command
from shared.messages import ControlEvent
from shared.streams import Entry, GroupReader, HintReader, OwnedStream, hint, keep_alive, send
from shared.telemetry import Telemetry, configure
from shared.topics import CONTROL, Keys
from shared.worker import Outgoing, Reader, Worker


class Echo:
    """Answers each message on `target`, and does as many slices of background work as it is given."""

    def __init__(self, target: str, slices: int = 0) -> None:
        self.target = target
        self.slices = slices
        self.seen: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.notes: list[Command] = []

    @property
    def has_background_work(self) -> bool:
        return self.slices > 0

    def handle(self, message: ControlEvent) -> Sequence[Outgoing]:
        self.seen.append(f"{message.subject}/{message.kind}")
        self.before_answer()
        return [Outgoing(self.target, message, "00-trace", self.notes)] if self.target else []

    def background(self) -> None:
        self.slices -= 1
        self.seen.append("background")


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with configure("drafter", "d.1") as telemetry:
        yield telemetry


@pytest.fixture
def streams(redis_client: Redis, keys: Keys) -> tuple[str, str]:
    """The streams a drafter reads and writes."""
    names = (keys.draft("d.1"), keys.select)
    keep_alive(redis_client, [OwnedStream(name) for name in names])
    return names


def put(client: Redis, stream: str, *events: tuple[str, str]) -> None:
    for subject, kind in events:
        body = CONTROL.encode(ControlEvent(subject=subject, kind=kind))
        send(client, [hint(stream, body, traceparent=None, now_ms=0.0)])


def worker_of(
    client: Redis, reader: Reader, handler: Echo, telemetry: Telemetry, *, burst: bool = True
) -> Worker[ControlEvent]:
    return Worker(
        reader,
        handler,
        client=client,
        decode=CONTROL.decode,
        key=lambda event: event.subject,
        telemetry=telemetry,
        burst=burst,
        wall_ms=lambda: 12.5,
    )


def count_of(telemetry: Telemetry, series: str) -> float:
    lines = [line for line in telemetry.prometheus().decode().splitlines() if line.startswith(series)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_burst_answers_everything_and_returns(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    source, target = streams
    put(redis_client, source, ("a", "1"), ("b", "1"))
    handler = Echo(target, slices=2)
    worker_of(redis_client, HintReader(redis_client, [source]), handler, telemetry).run()
    assert handler.seen == ["a/1", "b/1", "background", "background"]
    answers = HintReader(redis_client, [target]).read(None)[target]
    assert [CONTROL.decode(entry.body).subject for entry in answers] == ["a", "b"]
    assert (answers[0].traceparent, answers[0].sent_at) == ("00-trace", 12.5)


def test_only_the_newest_message_of_a_key_is_handled(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    source, target = streams
    put(redis_client, source, ("a", "1"), ("b", "1"), ("a", "2"), ("a", "3"))
    handler = Echo(target)
    worker_of(redis_client, HintReader(redis_client, [source]), handler, telemetry).run()
    assert handler.seen == ["b/1", "a/3"]
    assert count_of(telemetry, 'adaserve_hints_dropped_total{reason="superseded"}') == 2


def test_an_unreadable_message_is_counted_and_the_others_are_handled(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    source, target = streams
    redis_client.xadd(source, {"body": b"\xc1"})
    redis_client.xadd(source, {"nothing": b""})
    put(redis_client, source, ("a", "1"))
    handler = Echo(target)
    worker_of(redis_client, HintReader(redis_client, [source]), handler, telemetry).run()
    assert handler.seen == ["a/1"]
    assert count_of(telemetry, 'adaserve_hints_dropped_total{reason="unreadable"}') == 2


def test_an_answer_without_reader_is_counted(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    put(redis_client, streams[0], ("a", "1"))
    handler = Echo("nobody")
    worker_of(redis_client, HintReader(redis_client, [streams[0]]), handler, telemetry).run()
    assert count_of(telemetry, 'adaserve_hints_dropped_total{reason="reader_gone"}') == 1
    assert not redis_client.exists("nobody")


def test_notes_leave_with_the_answer_and_what_becomes_of_them_is_no_matter(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str], keys: Keys
) -> None:
    source, target = streams
    put(redis_client, source, ("a", "1"))
    handler = Echo(target)
    handler.notes = [("SADD", source, "x"), ("SADD", keys.inspect("r"), "x")]  # the first is refused
    worker_of(redis_client, HintReader(redis_client, [source]), handler, telemetry).run()
    assert len(HintReader(redis_client, [target]).read(None)[target]) == 1
    assert redis_client.scard(keys.inspect("r")) == 1
    assert count_of(telemetry, "adaserve_hints_dropped_total") == 0
    assert count_of(telemetry, "adaserve_bus_errors_total") == 0


def test_a_group_reader_leaves_its_group_when_the_worker_ends(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    reader = GroupReader(redis_client, streams[1], "g", "s.1")
    reader.read(None)
    put(redis_client, streams[1], ("a", "1"))
    handler = Echo("")
    worker_of(redis_client, reader, handler, telemetry).run()
    assert handler.seen == ["a/1"]
    assert redis_client.xinfo_consumers(streams[1], "g") == []


def test_a_stop_lets_the_message_at_hand_finish_and_no_other_begin(
    redis_client: Redis, telemetry: Telemetry, streams: tuple[str, str]
) -> None:
    source, target = streams
    put(redis_client, source, ("a", "1"), ("b", "1"))
    handler = Echo(target)
    worker = worker_of(redis_client, HintReader(redis_client, [source]), handler, telemetry, burst=False)
    handler.before_answer = worker.stop
    worker.run()
    assert handler.seen == ["a/1"]
    assert redis_client.xlen(target) == 1


def test_the_loop_does_not_import_torch() -> None:
    source = "import sys, shared.worker; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False False\n"


class Script:
    """A reader that does what it is told, one step per read."""

    def __init__(self, *steps: Exception | list[Entry]) -> None:
        self.steps = list(steps)
        self.blocks: list[float | None] = []
        self.at_end: Callable[[], None] = lambda: None
        self.closing: Exception | None = None

    def read(self, block_ms: float | None) -> Mapping[str, Sequence[Entry]]:
        self.blocks.append(block_ms)
        if not self.steps:
            self.at_end()
            return {}
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return {"s": step}

    def close(self) -> None:
        if self.closing is not None:
            raise self.closing


def entry_of(subject: str) -> Entry:
    body = CONTROL.encode(ControlEvent(subject=subject, kind="1"))
    return Entry(id="1-0", body=body, traceparent=None, sent_at=0.0, fields={})


def test_a_redis_that_is_away_does_not_end_the_loop(redis_client: Redis, telemetry: Telemetry) -> None:
    reader = Script(BusUnavailable("away"), [entry_of("a")], BusUnavailable("again"))
    reader.closing = BusUnavailable("still")
    handler = Echo("")
    worker = worker_of(redis_client, reader, handler, telemetry, burst=False)
    reader.at_end = worker.stop
    worker.run()
    assert handler.seen == ["a/1"]
    assert count_of(telemetry, "adaserve_bus_errors_total") == 2


def test_the_loop_blocks_only_when_nothing_is_left_to_do(redis_client: Redis, telemetry: Telemetry) -> None:
    reader = Script([], [])
    handler = Echo("", slices=2)
    worker = worker_of(redis_client, reader, handler, telemetry, burst=False)
    reader.at_end = worker.stop
    worker.run()
    assert reader.blocks == [None, None, 1_000]


def test_a_bug_in_the_handler_ends_the_process(redis_client: Redis, telemetry: Telemetry) -> None:
    handler = Echo("")

    def fail() -> None:
        raise ZeroDivisionError

    handler.before_answer = fail
    with pytest.raises(ZeroDivisionError):
        worker_of(redis_client, Script([entry_of("a")]), handler, telemetry).run()


def test_the_pulse_ticks_with_the_loop(redis_client: Redis, telemetry: Telemetry) -> None:
    worker = worker_of(redis_client, Script([entry_of("a")]), Echo(""), telemetry)
    worker.run()
    assert worker.pulse.healthy()
