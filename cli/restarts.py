"""When a service that ended is started again."""

from __future__ import annotations

import signal

from shared.errors import AdaServeError
from shared.settings import EXIT_CONFIGURATION

IMMEDIATE_S = 10.0  # a service that lived shorter has not served anyone
MAX_IMMEDIATE = 5  # of them in a row mean that another start will not help
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0


class ServiceFailed(AdaServeError):
    """A service ended and starting it again would not help."""


class RestartPolicy:
    """Counts the ends of one service and gives the delay before each restart."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._immediate = 0
        self.restarts = 0

    def delay_after(self, code: int, uptime_s: float) -> float:
        """Seconds to wait before the next start, doubling while the service ends at once.

        Raises ServiceFailed for a configuration error and for the `MAX_IMMEDIATE`-th immediate end in a row.
        """
        if code == EXIT_CONFIGURATION:
            raise ServiceFailed(f"{self._service} cannot start with these settings (its last line says why)")
        self._immediate = self._immediate + 1 if uptime_s < IMMEDIATE_S else 0
        if self._immediate >= MAX_IMMEDIATE:
            raise ServiceFailed(
                f"{self._service} ended {self._immediate} times in a row, last {reason(code)}; giving up"
            )
        self.restarts += 1
        return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** max(0, self._immediate - 1)))


def reason(code: int) -> str:
    """`with exit code 1` or `by signal SIGKILL`, from a process's return code."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
