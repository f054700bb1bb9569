"""Rank 0's view of the processes that run the model with it: started, watched, let go.

Each has a pipe from rank 0 as its standard input. It ends when that ends, however rank 0 went, and rank 0 ends as
soon as one of them does: a forward pass needs all of them, and what was served is taken over by another verifier.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from shared.settings import EXIT_CONFIGURATION

logger = logging.getLogger(__name__)

FAREWELL = b"."  # before the end of the pipe: rank 0 has no more to compute, nothing is wrong
_LET_GO_S = 5.0
_NAMED_S = 1.0  # a rank's death shows as a broken connection first, and a moment later as the process that is gone


class Ranks:
    """Ranks 1 and up, each started by its command; ``folder``, where they meet, is theirs and goes with them."""

    def __init__(self, commands: Sequence[Sequence[str]], folder: Path) -> None:
        self._folder = folder
        self._closing = False
        self._ending = threading.Lock()
        self.processes = {
            index: subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for rank 0, which needs the others until it has drained
            )
            for index, command in enumerate(commands, start=1)
        }
        for index in self.processes:
            threading.Thread(target=self._watch, args=(index,), name=f"rank-{index}", daemon=True).start()

    def close(self) -> None:
        """Let the others go and wait for them."""
        self._closing = True
        for process in self.processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(FAREWELL)
                process.stdin.close()
        for process in self.processes.values():
            try:
                process.wait(_LET_GO_S)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def fail(self, error: Exception) -> NoReturn:
        """End at once because of ``error``, or because of the death that was behind it."""
        threading.Event().wait(_NAMED_S)  # where there was a death, its thread ends this process meanwhile
        self._end(1, f"the ranks have lost each other: {type(error).__name__}: {error}")

    def _watch(self, index: int) -> None:
        process = self.processes[index]
        code = process.wait()
        if not self._closing:
            self._end(
                EXIT_CONFIGURATION if code == EXIT_CONFIGURATION else 1,
                f"rank {index} (pid {process.pid}) {_how(code)}: the verifier ends, it needs all its ranks",
            )

    def _end(self, code: int, reason: str) -> NoReturn:
        with self._ending:  # whoever comes second has nothing to add
            logger.critical(reason)
            for process in self.processes.values():
                process.kill()  # one that is stuck would not see the end of its pipe
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(code)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
