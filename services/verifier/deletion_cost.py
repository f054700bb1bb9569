"""How much would be lost if this pod were the one to go: its live KV, told to Kubernetes as pod-deletion-cost.

A ReplicaSet that is made smaller deletes the pods of least cost first; those whose requests are the fewest tokens
to move. An option, off by default: it needs the right to patch pods, and a way to the API server. It is a courtesy
and never more: it runs in a thread of its own, waits for nothing that serving needs, and when the API server is
away or refuses, the annotation stays as it is.
"""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
MERGE_PATCH = "application/merge-patch+json"
PERIOD_S = 10.0
MAX_PAUSE_S = 300.0  # between attempts while the API server refuses or is away
LEAST_CHANGE = 1024  # tokens
PART = 8  # or that part of what was told
TIMEOUT_S = 5.0
MAX_COST = 2**31 - 1  # the annotation is an int32
MAX_REASON = 300


class Refused(Exception):
    """The API server's answer was not a success."""


def is_news(told: int | None, tokens: int) -> bool:
    """Whether ``tokens`` differ enough from what was ``told`` last, if anything was."""
    if told is None or (tokens == 0) != (told == 0):
        return True
    return abs(tokens - told) >= max(LEAST_CHANGE, told // PART)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodApi:
    """This pod at the API server. ``account`` holds ``token`` and ``ca.crt``, which Kubernetes renews."""

    host: str
    port: int
    namespace: str
    pod: str
    account: Path

    def annotate(self, cost: int) -> None:
        """Raises Refused, OSError or HTTPException; says nothing of the token."""
        body = json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}})
        token = (self.account / "token").read_text(encoding="utf-8").strip()
        trusted = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=trusted)
        try:
            connection.request(
                "PATCH",
                f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}",
                body,
                {"Authorization": f"Bearer {token}", "Content-Type": MERGE_PATCH, "Accept": "application/json"},
            )
            answer = connection.getresponse()
            reason = answer.read(MAX_REASON).decode(errors="replace")
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise Refused(f"{answer.status} {reason}")


class DeletionCost:
    """Tells of ``tokens`` whenever they have changed enough, at most every ``period_s``. A context manager."""

    def __init__(
        self, annotate: Callable[[int], None], tokens: Callable[[], int], *, period_s: float = PERIOD_S
    ) -> None:
        self._annotate, self._tokens, self._period_s = annotate, tokens, period_s
        self._told: int | None = None
        self._is_failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deletion-cost", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An attempt that is under way ends by itself: nobody waits for it."""
        self._stopping.set()

    def _run(self) -> None:
        pause_s = self._period_s
        while not self._stopping.wait(pause_s):
            pause_s = self._period_s if self.tell() else min(2 * pause_s, MAX_PAUSE_S)

    def tell(self) -> bool:
        """One look, and an attempt if there is news; False if that failed. Raises nothing."""
        cost = min(self._tokens(), MAX_COST)
        if not is_news(self._told, cost):
            return True
        try:
            self._annotate(cost)
        except (OSError, ValueError, http.client.HTTPException, Refused) as error:
            if not self._is_failing:  # once an outage
                logger.warning("pod-deletion-cost cannot be told to Kubernetes: %s", error)
            self._is_failing = True
            return False
        if self._is_failing:
            logger.info("pod-deletion-cost is told to Kubernetes again")
        self._told, self._is_failing = cost, False
        return True
