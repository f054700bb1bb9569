"""One of ranks 1 and up: `python -m services.verifier.follower RANK STORE`, started by rank 0 (`ranks`) only.

It knows no bus and serves no port. Its standard input is a pipe from rank 0, and ends with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from services.verifier.meeting import join
from services.verifier.parallel import follow, load_part
from services.verifier.ranks import FAREWELL
from services.verifier.settings import VerifierSettings
from shared.errors import ConfigurationError
from shared.inference.threads import use_threads
from shared.settings import load, stop

logger = logging.getLogger(__name__)

_NAMED_S = 1.0  # rank 0 names the rank that died, and ends; this one with it


def main() -> None:
    """Compute with rank 0 until it goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rank", type=int)
    parser.add_argument("store", type=Path)
    options = parser.parse_args()
    settings = load(VerifierSettings)
    logging.basicConfig(
        level=settings.log_level, format=f"%(levelname)s rank {options.rank} %(name)s: %(message)s"
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # rank 0 drains first; then it says so
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_leader, args=(options.store.parent,), name="leader", daemon=True).start()
    use_threads(settings.threads)
    try:
        rank, line = join(settings, options.rank, options.store)
        runner, _ = load_part(settings, rank)
        line.wait_for_all()
        follow(runner, line)
    except ConfigurationError as error:
        stop(error)
    except Exception:
        threading.Event().wait(_NAMED_S)
        logger.exception("cannot go on")
        os._exit(1)  # no farewells to the other ranks: they may be the reason


def _end_with_leader(folder: Path) -> None:
    """At once, whatever the main thread is in; nobody else is left to remove the folder."""
    if os.read(sys.stdin.fileno(), 1) != FAREWELL:
        logger.error("rank 0 is gone: this rank ends too")
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
