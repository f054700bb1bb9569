"""Each case is a process of its own, for the end of a rank ends it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STARTED = """
import logging, os, signal, sys, tempfile, time
from pathlib import Path
from services.verifier.ranks import Ranks
logging.basicConfig(format="%(levelname)s %(message)s")
rank = lambda script: [sys.executable, "-c", script]
folder = Path(tempfile.mkdtemp(dir={folder!r}))
waits = rank("import sys; sys.exit(0 if sys.stdin.read() == '.' else 3)")
"""
End = Callable[[str], tuple[int, str]]
ALL = "the verifier ends, it needs all its ranks"


@pytest.fixture
def end_of(tmp_path: Path) -> End:
    """Runs rank 0; its exit code and stderr. The ranks' folder must be gone, unless it had no chance."""

    def run(script: str) -> tuple[int, str]:
        started = STARTED.replace("{folder!r}", repr(str(tmp_path)))
        done = subprocess.run([sys.executable, "-c", started + script], capture_output=True, text=True, timeout=30)
        assert (list(tmp_path.iterdir()) == []) == (done.returncode >= 0)
        return done.returncode, done.stderr.strip()

    return run


@pytest.mark.parametrize(
    ("death", "code", "line"),
    [
        ("os.kill(os.getpid(), 9)", 1, "rank 2 (pid #) was ended by SIGKILL"),
        ("sys.exit(0)", 1, "rank 2 (pid #) ended with exit code 0"),
        ("sys.exit(2)", 2, "rank 2 (pid #) ended with exit code 2"),  # a configuration that no restart mends
    ],
)
def test_the_end_of_any_rank_ends_the_service(death: str, code: int, line: str, end_of: End) -> None:
    found, said = end_of(
        f"ranks = Ranks([waits, rank('import os, sys; {death}')], folder)\n"
        "print(ranks.processes[2].pid, file=sys.stderr)\ntime.sleep(20)"
    )
    pid, _, rest = said.partition("\n")
    assert (found, rest) == (code, f"CRITICAL {line.replace('#', pid)}: {ALL}")


def test_ranks_that_are_let_go_are_no_news(end_of: End) -> None:
    assert end_of(
        "ranks = Ranks([waits, waits], folder)\nranks.close()\n"
        "assert [process.returncode for process in ranks.processes.values()] == [0, 0]"
    ) == (0, "")


def test_a_failed_sum_without_a_death_ends_the_service_too(end_of: End) -> None:
    assert end_of("Ranks([waits], folder).fail(RuntimeError('timed out'))") == (
        1,
        "CRITICAL the ranks have lost each other: RuntimeError: timed out",
    )


def test_a_failed_sum_is_blamed_on_the_rank_that_died(end_of: End) -> None:
    code, said = end_of(
        "ranks = Ranks([waits, waits], folder)\nos.kill(ranks.processes[1].pid, signal.SIGTERM)\n"
        "ranks.fail(RuntimeError('connection closed'))"
    )
    assert code == 1
    assert said.startswith("CRITICAL rank 1 (pid ")
    assert said.endswith(f"was ended by SIGTERM: {ALL}")


def test_a_rank_ends_with_rank_0_however_it_ended(end_of: End) -> None:
    code, said = end_of(
        "told = rank(\"import os, sys; os.write(2, b'rank 0 is gone' if sys.stdin.read() == '' else b'?')\")\n"
        "Ranks([told], folder)\nos.kill(os.getpid(), 9)"
    )
    assert (code, said) == (-9, "rank 0 is gone")
