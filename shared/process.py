"""How every service starts and how a start that cannot succeed ends: one line and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shared.errors import BusUnavailable, ConfigurationError
from shared.settings import EXIT_BUS_UNAVAILABLE, AnySettings, load, stop


def run(settings_type: type[AnySettings], serve: Callable[[AnySettings], None]) -> None:
    """Read the settings and serve until a signal.

    ``serve`` raises ConfigurationError, and BusUnavailable at the start only.
    """
    settings = load(settings_type)
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    try:
        serve(settings)
    except ConfigurationError as error:
        stop(error)
    except BusUnavailable as error:
        stop(error, EXIT_BUS_UNAVAILABLE)
