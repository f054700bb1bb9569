"""Probes as the kubelet runs them: what is asked, how often, and how many answers in a row count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.rehearsal.manifests import RehearsalError

HANDLERS = ("httpGet", "exec", "tcpSocket")
FIELDS = {
    *HANDLERS,
    *("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"),
}

Execute = Callable[[list[str], float], Awaitable[int]]
"""Runs a command in the container, within seconds; its exit code. Raises TimeoutError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of a container, with Kubernetes' defaults."""

    handler: str
    given: Mapping[str, Any]
    delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Probe:
        """Raises RehearsalError for a field or handler that this node does not know."""
        if unknown := given.keys() - FIELDS:
            raise RehearsalError(f"probe: {', '.join(sorted(unknown))} is not supported")
        (handler,) = given.keys() & set(HANDLERS)
        return cls(
            handler=handler,
            given=given[handler],
            delay_s=float(given.get("initialDelaySeconds", 0)),
            period_s=float(given.get("periodSeconds", 10)),
            timeout_s=float(given.get("timeoutSeconds", 1)),
            successes=int(given.get("successThreshold", 1)),
            failures=int(given.get("failureThreshold", 3)),
        )

    def check(self, ports: Mapping[str, int]) -> None:
        """Raises RehearsalError for a port that the pod does not have."""
        if "port" in self.given:
            port_number(self.given["port"], ports)


class Streak:
    """Answers in a row of one kind; the verdict turns when there are enough of the other."""

    def __init__(self, probe: Probe, *, holds: bool) -> None:
        self._probe = probe
        self.holds = holds
        self.has_spoken = False  # a threshold was reached, of either kind
        self._last: bool | None = None
        self._count = 0

    def heard(self, is_good: bool) -> None:
        """One answer."""
        self._count = self._count + 1 if is_good is self._last else 1
        self._last = is_good
        if self._count >= (self._probe.successes if is_good else self._probe.failures):
            self.holds, self.has_spoken = is_good, True


async def ask(probe: Probe, address: str, ports: Mapping[str, int], execute: Execute) -> bool:
    """Whether one attempt succeeded."""
    given = probe.given
    try:
        if probe.handler == "exec":
            return await execute(list(given["command"]), probe.timeout_s) == 0
        port = port_number(given["port"], ports)
        async with asyncio.timeout(probe.timeout_s):
            if probe.handler == "tcpSocket":
                return await _connects(address, port)
            return 200 <= await _status(address, port, given) < 400
    except (OSError, TimeoutError):
        return False


def port_number(port: int | str, ports: Mapping[str, int]) -> int:
    """Raises RehearsalError for a name that the pod does not have."""
    if isinstance(port, int):
        return port
    if port not in ports:
        raise RehearsalError(f"port {port!r}: no container of the pod names one so")
    return ports[port]


async def _connects(address: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return True


async def _status(address: str, port: int, given: Mapping[str, Any]) -> int:
    headers = {
        "Host": f"{address}:{port}",
        "User-Agent": "kube-probe/1.27",
        "Accept": "*/*",
        "Connection": "close",
    }
    headers |= {header["name"]: header["value"] for header in given.get("httpHeaders", ())}
    reader, writer = await asyncio.open_connection(address, port)
    try:
        lines = [
            f"GET {given.get('path', '/')} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        words = (await reader.readline()).split()
        return int(words[1]) if len(words) > 1 else 0
    finally:
        writer.close()
