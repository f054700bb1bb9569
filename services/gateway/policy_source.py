"""The policy in force, and the file that it comes from, which is followed (`followed_file`).

A bad file is refused, and what was in force stays so. Whoever has looked at `current` keeps that policy: it never
changes under a request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.gateway.audit import SYSTEM, Record
from services.gateway.followed_file import FollowedFile, digest_of
from services.gateway.slo import CUSTOM
from shared import signals
from shared.errors import ConfigurationError, PolicyError
from shared.policy import Policy
from shared.telemetry import Telemetry
from shared.yaml_file import YamlFile

logger = logging.getLogger(__name__)

PERIOD_S = 0.5  # two looks make a second


class PolicySource:
    """Without a path, always the policy that it is built with.

    ``secret`` gives the value of an environment variable, None where there is none.
    """

    def __init__(
        self,
        path: Path | None,
        policy: Policy | None,
        telemetry: Telemetry,
        *,
        secret: Callable[[str], str | None],
        record: Record,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises PolicyError for a file that cannot be taken."""
        self.current: Policy | None = None
        self.digest: str | None = None
        self._file = None if path is None else FollowedFile(path)
        self._telemetry = telemetry
        self._secret = secret
        self._record = record
        self._clock = clock
        self._since: float | None = None
        self._error: dict[str, Any] | None = None
        telemetry.set(signals.POLICY_REFUSED, 0)
        if self._file is not None:
            data = self._file.read()
            self._take(self._policy_of(self._file.path, data), digest_of(data))
        elif policy is not None:
            self._put(policy)
        else:
            self._begin(CUSTOM)

    def about(self) -> dict[str, Any]:
        """What is in force since when (Unix ms), and what was refused last, if nothing good has come since."""
        return {
            "file": None if self._file is None else str(self._file.path),
            "digest": self.digest,
            "since_ms": None if self._since is None else round(1_000 * self._since),
            "error": self._error,
        }

    async def watch(self) -> None:
        """Tell which policy this is, then look for ever; nothing to do without a file."""
        if self._file is not None:  # it may have changed while no gateway ran
            await self._record("policy.load", who=SYSTEM, before=None, after=self.digest)
        while self._file is not None:
            await asyncio.sleep(PERIOD_S)
            before, error = self.digest, self._error
            await asyncio.to_thread(self.look, self._file)
            if self.digest != before:
                await self._record("policy.reload", who=SYSTEM, before=before, after=self.digest)
            elif self._error is not None and self._error is not error:
                told = {"message": self._error["message"], "file": self._error["digest"]}
                await self._record("policy.refused", who=SYSTEM, before=before, after=told)

    def look(self, file: FollowedFile) -> None:
        """Take or refuse what is new in it."""
        try:
            data = file.look()
        except PolicyError as error:
            self._refuse(error, None)
            return
        if data is None:
            return
        digest = digest_of(data)
        try:
            policy = self._policy_of(file.path, data)
        except PolicyError as error:
            self._refuse(error, digest)
        else:
            self._take(policy, digest)
            self._telemetry.add(signals.POLICY_RELOADS)
            logger.info("policy %s of %s is in force", digest[:12], file.path)

    def _policy_of(self, path: Path, data: bytes) -> Policy:
        file = YamlFile.parse(path, data)
        policy = file.model(Policy)
        upstream = policy.rollout.otherwise if policy.rollout is not None else None
        if upstream is not None and upstream.api_key_env is not None:
            self._check_key(file, upstream.api_key_env)
        return policy

    def _check_key(self, file: YamlFile, variable: str) -> None:
        """Raises PolicyError where the variable holds no key, and no file that it names."""
        try:
            words = "" if self._secret(variable) else "this environment variable of the gateway is not set"
        except ConfigurationError as error:
            words = str(error)
        if words:
            raise file.error(("rollout", "otherwise", "api_key_env"), words)

    def _take(self, policy: Policy, digest: str) -> None:
        self._put(policy)
        self.digest, self._since, self._error = digest, self._clock(), None
        self._telemetry.set(signals.POLICY_REFUSED, 0)

    def _put(self, policy: Policy) -> None:
        """In force, its objectives told: alerts compare what was attained with them."""
        before = {} if self.current is None else self.current.classes
        for name in before.keys() | policy.classes.keys():
            found = policy.classes.get(name)
            objective = None if found is None else found.objective
            if objective is not None or (name in before and before[name].objective is not None):
                self._telemetry.set(signals.SLO_OBJECTIVE, objective or 0.0, slo_class=name)
            self._begin(name)
        self.current = policy

    def _begin(self, service_class: str) -> None:
        """Its counters at 0, or Prometheus would not see the first miss as an increase."""
        for counter in (signals.SLO_REQUESTS, signals.SLO_MISSED, signals.GOODPUT_TOKENS):
            for labels in counter.zeros(slo_class=(service_class,)):
                self._telemetry.add(counter, 0, **labels)

    def _refuse(self, error: PolicyError, digest: str | None) -> None:
        self._error = {"message": str(error), "digest": digest, "at_ms": round(1_000 * self._clock())}
        self._telemetry.add(signals.POLICY_RELOAD_FAILURES)
        self._telemetry.set(signals.POLICY_REFUSED, 1)
        logger.error("policy refused, %s stays in force: %s", (self.digest or "none")[:12], error)
