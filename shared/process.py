"""How every service starts and ends: one line and an exit code where it cannot start, a drain at a signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

from shared.errors import BusUnavailable, ConfigurationError
from shared.redis_wait import wait_for_redis
from shared.settings import EXIT_BUS_UNAVAILABLE, AnySettings, load, stop


def run(settings_type: type[AnySettings], serve: Callable[[AnySettings], None]) -> None:
    """Read the settings, wait for Redis as long as they say, and serve until a signal.

    ``serve`` raises ConfigurationError, and BusUnavailable at the start only.
    """
    settings = load(settings_type)
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    try:
        wait_for_redis(settings.bus_url, settings.redis_patience_s)
        serve(settings)
    except ConfigurationError as error:
        stop(error)
    except BusUnavailable as error:
        stop(error, EXIT_BUS_UNAVAILABLE)


def on_signals(drain: Callable[[], None]) -> None:
    """The first SIGTERM or SIGINT calls ``drain``; the next ends the process at once, with 128 + its number.

    Only from the main thread. Signals are heard in a thread of their own: the main thread may be inside a long
    forward pass. ``drain`` runs there and must return at once, so that the next signal is heard.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _heard)
    threading.Thread(target=_listen, args=(reader, drain), name="signals", daemon=True).start()


def _heard(*_: object) -> None:
    """A handler must exist for a signal to reach the pipe; the default action would end the process."""


def _listen(reader: int, drain: Callable[[], None]) -> None:
    os.read(reader, 1)
    drain()
    (number,) = os.read(reader, 1)
    os._exit(128 + number)  # no farewells: whoever signals twice wants it gone, and others can take over
