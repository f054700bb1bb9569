"""What one gateway process delivers, beside a bare FastAPI server that sends the same bytes.

    python -m bench.gateway_load [--streams 500] [--seconds 8] [--rounds 5] [--chunk 4] [--events 256] [--window 4]
                                 [--idle 2000] [--hold 40] [--target DIR]

The gateway is the real one, on a real Redis; in the verifier's place a token source commits through the real
script (`source`). Redis, source and client share the machine's processors with the gateway, and the echo has only
the client beside it, so the ratio is taken twice: by the wall clock, and by the server's own CPU time, which
neighbours change less.

Beside both there is a floor (`floor`): the same gateway without checks, text and JSON, that is what any gateway in
Python does which reads its tokens from a Redis stream.

1. rounds in turn, gateway, floor and echo: so many streams, each answered by so many events of so many tokens,
   asked again at its end. Up to ``window`` events of a stream are on their way. The medians of pairs count.
2. half of that rate, evenly: the latency from the commit (Redis' clock) until the client has the event.
3. many streams that get nothing for a while but keep-alives: memory of each, CPU; then they get their tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.gateway_load.board import MAX_STREAMS, Board, map_board
from bench.gateway_load.processes import cpu_s, rss_mb
from bench.local import TARGET, LocalStack
from shared.embedded_redis import EmbeddedRedis

GOAL = 0.5
PROMPT = "def lines(text):\n"
MODULES = {name: f"bench.gateway_load.{name}" for name in ("source", "echo", "floor")}
WARM_UP_S = 2.0
KEEP_ALIVE_S = 5.0
QUIET_S = 3.0


@dataclass(frozen=True)
class Round:
    """Of one server: events a second, its CPU seconds and those of its neighbours, of the wall's."""

    wall_s: float
    events: float
    cpu_s: dict[str, float]
    server: str

    @property
    def per_s(self) -> float:
        return self.events / self.wall_s

    @property
    def us(self) -> float:
        """The server's own CPU time for an event."""
        return 1e6 * self.cpu_s[self.server] / self.events

    def __str__(self) -> str:
        busy = ", ".join(f"{name} {spent:.1f}" for name, spent in self.cpu_s.items())
        return f"{self.server:8}{self.per_s:8.0f} events/s {self.us:6.1f} us each    CPU s: {busy}"


class Load:
    """A stack with what is compared, and clients."""

    def __init__(self, stack: LocalStack, redis_pid: int, board: Board, options: argparse.Namespace) -> None:
        self.stack, self.redis_pid, self.board, self.options = stack, redis_pid, board, options
        self._path = stack.folder / "board"

    @property
    def body(self) -> dict[str, Any]:
        tokens = self.options.events * self.options.chunk
        return {"prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True}

    def record(self) -> bytes:
        """A stream as the gateway sends it."""
        self.board.order(rate=0, window=self.options.events)
        request = urllib.request.Request(  # noqa: S310 - our own http URL
            f"{self.stack.url}/v1/completions",
            json.dumps({**self.body, "seed": 0}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            recording: bytes = response.read()
        self.board.clear()
        return recording

    @contextmanager
    def crowd(self, server: str, streams: int) -> Iterator[tuple[int, dict[str, int]]]:
        """So many open streams whose events the source holds; the client's pid, and what it saw in the end."""
        self.board.order(rate=0, window=0)
        about = {
            "port": self.stack.ports[server],
            "streams": streams,
            "events": self.options.events,
            "body": self.body,
            "board": str(self._path),
        }
        command = [sys.executable, "-m", "bench.gateway_load.client", json.dumps(about)]
        seen: dict[str, int] = {}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != "open\n":
                raise RuntimeError("the client has not opened its streams")
            yield process.pid, seen
            process.stdin.close()
            seen.update(json.loads(process.stdout.readline()))
        time.sleep(0.5)  # the source hears that the streams are gone
        self.board.clear()

    def pids(self, server: str) -> dict[str, int]:
        found = {server: self.stack.processes[server].pid}
        if server != "echo":
            found |= {"source": self.stack.processes["source"].pid, "redis": self.redis_pid}
        return found

    def run(self, server: str) -> Round:
        """One round."""
        with self.crowd(server, self.options.streams) as (client, seen):
            self.board.order(rate=0, window=self.options.window)
            time.sleep(WARM_UP_S)
            pids = {**self.pids(server), "client": client}
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            started, events = time.monotonic(), self.board.received.sum()
            time.sleep(self.options.seconds)
            wall_s, events = time.monotonic() - started, self.board.received.sum() - events
            spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
        check(seen)
        return Round(wall_s, float(events), spent, server)

    def latency(self, rate: float) -> tuple[np.ndarray[Any, Any], float]:
        """ms of each event at a rate, and the gateway's share of a processor."""
        with self.crowd("gateway", self.options.streams) as (_, seen):
            self.board.order(rate=rate, window=self.options.events)
            time.sleep(WARM_UP_S)
            self.board.received_ms[:] = self.board.sent_ms  # those of the opening count as 0 and are left out
            pid = self.stack.processes["gateway"].pid
            before, started = cpu_s(pid), time.monotonic()
            time.sleep(self.options.seconds)
            share = (cpu_s(pid) - before) / (time.monotonic() - started)
            self.board.order(rate=rate, window=0)
            time.sleep(0.5)
            found = self.board.latencies()
        check(seen)
        return found[found != 0], share


def check(seen: dict[str, int]) -> None:
    """Raises RuntimeError for a stream that was not what it had to be."""
    wrong = {name: count for name, count in seen.items() if name not in ("whole", "keep-alives")}
    if wrong:
        raise RuntimeError(f"streams went wrong: {wrong}")


def rounds_of(load: Load) -> Iterator[dict[str, Round]]:
    """Gateway, floor and echo in turn."""
    for _ in range(load.options.rounds):
        yield {name: load.run(name) for name in ("gateway", "floor", "echo")}


def compare(load: Load) -> float:
    """The gateway's median rate."""
    rounds: list[dict[str, Round]] = []
    for one in rounds_of(load):
        rounds.append(one)
        print(*one.values(), sep="\n", flush=True)
    rates = {name: statistics.median(one[name].per_s for one in rounds) for name in rounds[0]}
    us = {name: statistics.median(one[name].us for one in rounds) for name in rounds[0]}
    for name, other in (("gateway", "echo"), ("floor", "echo"), ("gateway", "floor")):
        ratio = statistics.median(one[name].per_s / one[other].per_s for one in rounds)
        cpu = statistics.median(one[other].us / one[name].us for one in rounds)
        goal = f" (goal {GOAL:.2f})" if (name, other) == ("gateway", "echo") else ""
        print(
            f"{name} {rates[name]:.0f} events/s, {other} {rates[other]:.0f}: {ratio:.2f}; by the server's CPU "
            f"time for an event, {us[name]:.0f} and {us[other]:.0f} us: {cpu:.2f}{goal}"
        )
    return rates["gateway"]


def idle(load: Load) -> None:
    """Many streams, held."""
    options, board = load.options, load.board
    pid = load.stack.processes["gateway"].pid
    before_mb = rss_mb(pid)
    with load.crowd("gateway", options.idle) as (_, seen):
        time.sleep(QUIET_S)
        held_mb = rss_mb(pid)
        spent, started = cpu_s(pid), time.monotonic()
        time.sleep(options.hold)
        share = (cpu_s(pid) - spent) / (time.monotonic() - started)
        board.order(rate=0, window=options.events)
        goal = options.idle * options.events
        ends = time.monotonic() + 600
        while board.received.sum() < goal and time.monotonic() < ends:
            time.sleep(0.1)
        board.order(rate=0, window=0)
        served_mb = rss_mb(pid)
        time.sleep(1)
    check(seen)
    print(
        f"{options.idle} idle streams for {options.hold} s: gateway {before_mb:.0f} -> {held_mb:.0f} MB, "
        f"{1024 * (held_mb - before_mb) / options.idle:.1f} KB each; {seen.get('keep-alives', 0)} keep-alives "
        f"(every {KEEP_ALIVE_S:g} s), {100 * share:.1f} % of a processor; then {seen.get('whole', 0)} of them got "
        f"all their {options.events} events ({served_mb:.0f} MB)"
    )


def main() -> None:
    """Print what was measured."""
    options = load_options(None)
    with stack_of(options) as load:
        rate = compare(load)
        found, share = load.latency(rate / 2)
        p50, p99 = np.quantile(found, (0.5, 0.99))
        print(
            f"at {rate / 2:.0f} events/s over {options.streams} streams ({share:.2f} of a processor): "
            f"from commit to client p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(found)} events)"
        )
        if options.idle:
            idle(load)


def load_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Of the command line, or of other arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunk", type=int, default=4, help="tokens of an event")
    parser.add_argument("--events", type=int, default=256, help="of an answer")
    parser.add_argument("--window", type=int, default=4, help="events of a stream that may be on their way")
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--hold", type=float, default=40.0, help="seconds for which idle streams get nothing")
    parser.add_argument("--target", default=TARGET)
    options = parser.parse_args(arguments)
    if not 0 < max(options.streams, options.idle) <= MAX_STREAMS:
        parser.error(f"--streams and --idle: at most {MAX_STREAMS}")
    return options


@contextmanager
def stack_of(options: argparse.Namespace) -> Iterator[Load]:
    """Redis, source and gateway, then the echoes."""
    with tempfile.TemporaryDirectory(prefix="ada-load-") as name, EmbeddedRedis() as redis:
        folder = Path(name)
        board = map_board(folder / "board")
        recording = str(folder / "recording")
        settings = {
            "source": {"TARGET": options.target, "BOARD": str(folder / "board"), "CHUNK": str(options.chunk)},
            "gateway": {
                "TARGET": options.target,
                "QUEUE_LIMIT": str(4 * MAX_STREAMS),
                "KEEP_ALIVE_S": str(KEEP_ALIVE_S),
                "REFUSE_UNREACHABLE": "false",
            },
            "echo": {"RECORDING": recording},
        }
        settings["floor"] = settings["gateway"]
        stack = LocalStack(redis.url, folder, settings, {"LOAD_RECORDING": recording})
        load = Load(stack, redis.pid, board, options)
        try:
            for name in ("source", "gateway"):
                stack.start(name, MODULES.get(name))
            stack.wait_ready("source", "gateway")
            Path(recording).write_bytes(load.record())
            for name in ("floor", "echo"):
                stack.start(name, MODULES[name])
            stack.wait_ready("floor", "echo")
            yield load
        finally:
            for name in [*stack.processes]:
                stack.kill(name)
            stack.stop()


if __name__ == "__main__":
    main()
