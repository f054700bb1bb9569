"""Redis itself fails under a cell of processes: what becomes of the open streams, fault by fault.

    python -m tests.faults.redis_faults                    every fault three times
    python -m tests.faults.redis_faults --only cut flush --times 10

A stream that Redis has forgotten may end with an explicit error (`request_lost`), never with a wrong token.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.cell import PlainDecoding, bodies, cell
from tests.faults.killer import CLIENTS, MAX_TOKENS
from tests.faults.load import STALL_S, Load, Record
from tests.faults.server import Server

PAUSE_S = 3.0
LARGEST_CUT = 20_000
DISK = "6m"


def restart(server: Server, chance: random.Random) -> None:
    """SIGKILL, and up again from its append-only file."""
    server.kill()
    server.start()


def cut(server: Server, chance: random.Random) -> None:
    """SIGKILL, and up again from a file that lacks its end."""
    server.kill()
    server.cut_file(chance.randrange(1, LARGEST_CUT))
    server.start()


def flush(server: Server, chance: random.Random) -> None:
    """FLUSHALL."""
    server.client().flushall()


def hang(server: Server, chance: random.Random) -> None:
    """SIGSTOP for 0.2, 2 or 5 s."""
    server.stop_for(chance.choice((0.2, 2.0, 5.0)))


def fill_memory(server: Server, chance: random.Random) -> None:
    """No command that needs memory is taken for 2 s."""
    client = server.client()
    client.config_set("maxmemory", "1")
    time.sleep(2.0)
    client.config_set("maxmemory", "0")


def cut_clients(server: Server, chance: random.Random) -> None:
    """CLIENT KILL of every connection."""
    client = server.client()
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def fill_disk(server: Server, chance: random.Random) -> None:
    """The disk of the append-only file is full for 3 s."""
    stone = server.data / "stone"
    with stone.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 4096)
                file.flush()
        except OSError:
            pass
    time.sleep(3.0)
    stone.unlink()


FAULTS: dict[str, Callable[[Server, random.Random], None]] = {
    "restart": restart,
    "cut": cut,
    "flush": flush,
    "hang": hang,
    "memory": fill_memory,
    "clients": cut_clients,
    "disk": fill_disk,
}


def trial(name: str, times: int, seed: int) -> Record:
    """A table cell under load whose Redis meets one kind of fault again and again."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(serving(small_disk=name == "disk"))
        target = stack.enter_context(cell(server.url, num_verifiers=2))
        load = Load(target.stack.ports["gateway"], bodies(seed, max_tokens=MAX_TOKENS), PlainDecoding(), CLIENTS)
        load.start()
        time.sleep(1.5)
        for _ in range(times):
            FAULTS[name](server, chance)
            time.sleep(PAUSE_S * chance.uniform(0.7, 1.3))
        load.stop()
        return load.record


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


def row(name: str, times: int, record: Record) -> str:
    """One line of the table."""
    ends = ", ".join(f"{outcome} {count}" for outcome, count in record.outcomes.most_common())
    return (
        f"{name:8} x{times}: {record.num_tokens} tokens, damaged {len(record.damage)}; {ends}; "
        f"{len(record.stalls)} stalls > {STALL_S} s, p50 {record.stall(0.5):.2f}, p99 {record.stall(0.99):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(FAULTS), default=list(FAULTS))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    is_damaged = False
    for name in chosen.only:
        try:
            record = trial(name, chosen.times, chosen.seed)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"{name:8} not possible here: {error}")
            continue
        print(row(name, chosen.times, record), flush=True)
        for line in record.damage[:3]:
            print("   ", line)
        is_damaged |= bool(record.damage)
    raise SystemExit(is_damaged)


if __name__ == "__main__":
    main()
