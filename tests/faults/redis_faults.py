"""Redis itself fails under a cell of processes: figures against the goals, fault by fault.

    python -m tests.faults.redis_faults                    every fault three times
    python -m tests.faults.redis_faults --only cut flush --times 10

No token may be wrong, and no stream may end with an error: its gateway lives. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cell import PlainDecoding, bodies, cell
from tests.faults.killer import CLIENTS, MAX_TOKENS
from tests.faults.load import Load, Record
from tests.faults.server import Server

PAUSE_S = 3.0
LARGEST_CUT = 20_000
DISK = "32m"  # more than the load writes before it is filled
HANGS_S = (0.2, 2.0, 5.0)


@dataclass
class Scene:
    """What a fault acts on, and what it leaves for the table."""

    server: Server
    gateway: int  # port
    chance: random.Random
    refusals: list[float] = field(default_factory=list)  # seconds that a new request waited for its refusal


def restart(scene: Scene) -> None:
    """SIGKILL, and up again from its append-only file."""
    scene.server.kill()
    scene.server.start()


def cut(scene: Scene) -> None:
    """SIGKILL, and up again from a file that lacks its end."""
    scene.server.kill()
    scene.server.cut_file(scene.chance.randrange(1, LARGEST_CUT))
    scene.server.start()


def flush(scene: Scene) -> None:
    """FLUSHALL."""
    scene.server.client().flushall()


def hang(scene: Scene) -> None:
    """SIGSTOP; new requests meanwhile."""
    seconds = scene.chance.choice(HANGS_S)
    with scene.server.stopped():
        until = time.monotonic() + seconds
        while time.monotonic() < until - 1.0:
            scene.refusals.append(refusal_s(scene.gateway))
        time.sleep(max(0.0, until - time.monotonic()))


def refusal_s(port: int) -> float:
    """How long a new request waits for its status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"model": "default", "prompt": [5], "max_tokens": 1})
    started = time.monotonic()
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    connection.getresponse()
    connection.close()
    return time.monotonic() - started


def fill_memory(scene: Scene) -> None:
    """No command that needs memory is taken for 2 s."""
    client = scene.server.client()
    client.config_set("maxmemory", "1")
    time.sleep(2.0)
    client.config_set("maxmemory", "0")


def cut_clients(scene: Scene) -> None:
    """CLIENT KILL of every connection."""
    scene.server.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def fill_disk(scene: Scene) -> None:
    """The disk of the append-only file is full for 3 s."""
    stone = scene.server.data / "stone"
    with stone.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    time.sleep(3.0)
    stone.unlink()


@dataclass(frozen=True, slots=True)
class Fault:
    """``from_start``: whether a stall counts from the strike or from its end; ``goal_s`` what it may last."""

    strike: Callable[[Scene], None]
    goal_s: float
    from_start: bool = False


REFUSED_S = 1.0
FAULTS = {
    "restart": Fault(restart, 3.0, from_start=True),
    "cut": Fault(cut, 3.0, from_start=True),
    "flush": Fault(flush, 3.0),
    "hang": Fault(hang, 2.0),
    "memory": Fault(fill_memory, 2.0),
    "clients": Fault(cut_clients, 2.0),
    "disk": Fault(fill_disk, 2.0),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of fault, again and again."""

    name: str
    record: Record
    stalls_s: list[float]  # by strike, of the stream that waited longest
    refusals_s: list[float]

    @property
    def misses(self) -> list[str]:
        """Goals that were missed."""
        missed = []
        if self.record.damage:
            missed.append(f"{len(self.record.damage)} damaged")
        if self.record.errors():
            missed.append(f"errors {dict(self.record.errors())}")
        if max(self.stalls_s) > FAULTS[self.name].goal_s:
            missed.append("stall")
        if max(self.refusals_s, default=0.0) > REFUSED_S:
            missed.append("refusal")
        return missed

    def __str__(self) -> str:
        outcomes = ", ".join(f"{outcome} {count}" for outcome, count in self.record.outcomes.most_common())
        since = "the strike" if FAULTS[self.name].from_start else "its end"
        stall = f"longest stall from {since} {max(self.stalls_s):.2f} s (goal {FAULTS[self.name].goal_s:g})"
        if self.refusals_s:
            stall += f", a new request refused within {max(self.refusals_s):.2f} s (goal {REFUSED_S:g})"
        verdict = f"MISSED: {', '.join(self.misses)}" if self.misses else "holds"
        return (
            f"{self.name:8} x{len(self.stalls_s)}: {verdict}\n    {stall}\n"
            f"    {self.record.num_tokens} tokens, damaged {len(self.record.damage)}; {outcomes}"
        )


def trial(name: str, times: int, seed: int) -> Trial:
    """A table cell under load whose Redis meets one kind of fault."""
    fault, moments = FAULTS[name], []
    with ExitStack() as stack:
        server = stack.enter_context(serving(small_disk=name == "disk"))
        target = stack.enter_context(cell(server.url, num_verifiers=2))
        load = Load(target.gateways, bodies(seed, max_tokens=MAX_TOKENS), PlainDecoding(), CLIENTS)
        scene = Scene(server, target.gateways[0], random.Random(seed))
        load.start()
        time.sleep(1.5)
        for _ in range(times):
            moment = time.monotonic()
            fault.strike(scene)
            moment = moment if fault.from_start else time.monotonic()
            time.sleep(PAUSE_S * scene.chance.uniform(0.7, 1.3))
            moments.append(moment)
        load.stop()
        return Trial(name, load.record, [load.record.recovery(moment) for moment in moments], scene.refusals)


@contextmanager
def serving(*, small_disk: bool) -> Iterator[Server]:
    """A server, its data on a small tmpfs if wanted. Raises OSError where that may not be mounted."""
    with tempfile.TemporaryDirectory(prefix="ada-") as name, ExitStack() as stack:
        folder, data = Path(name), Path(name) / "data"
        data.mkdir()
        if small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(data)], check=True)
            stack.callback(subprocess.run, ["umount", str(data)], check=True)
        server = Server(folder, data)
        stack.callback(server.close)
        server.start()
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(FAULTS), default=list(FAULTS))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    is_missed = False
    for name in chosen.only:
        try:
            found = trial(name, chosen.times, chosen.seed)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"{name:8} not possible here: {error}")
            continue
        print(found, flush=True)
        for line in found.record.damage[:3]:
            print("   ", line)
        is_missed |= bool(found.misses)
    raise SystemExit(is_missed)


if __name__ == "__main__":
    main()
