"""The policy in force, and the file that it comes from, which is read again and again.

A file is taken when two looks in a row have found the same bytes in it, so that one that is being written is not
taken by half. A bad one is refused, and what was in force stays so. Bytes are compared, not times: a ConfigMap's
links, a file put in another's place and one that is written over are all the same here. Whoever has looked at
`current` keeps that policy: it never changes under a request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from services.gateway.changes import SYSTEM, Record, to_log
from shared import signals
from shared.errors import PolicyError
from shared.policy import Policy
from shared.telemetry import Telemetry
from shared.yaml_file import YamlFile, read_bytes

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
        record: Record = to_log,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises PolicyError for a file that cannot be taken."""
        self.current = policy
        self.digest: str | None = None
        self._path = path
        self._telemetry = telemetry
        self._secret = secret
        self._record = record
        self._clock = clock
        self._since: float | None = None
        self._error: dict[str, Any] | None = None
        self._seen = self._judged = ""
        if path is not None:
            data = read_bytes(path)
            self._take(self._policy_of(path, data), digest_of(data))

    def about(self) -> dict[str, Any]:
        """What is in force since when (Unix ms), and what was refused last, if nothing good has come since."""
        return {
            "file": None if self._path is None else str(self._path),
            "digest": self.digest,
            "since_ms": None if self._since is None else round(1_000 * self._since),
            "error": self._error,
        }

    async def watch(self) -> None:
        """Look for ever; nothing to do without a file."""
        while self._path is not None:
            await asyncio.sleep(PERIOD_S)
            before, error = self.digest, self._error
            await asyncio.to_thread(self.look, self._path)
            if self.digest != before:
                await self._record("policy.reload", who=SYSTEM, before=before, after=self.digest)
            elif self._error is not None and self._error is not error:
                await self._record("policy.refused", who=SYSTEM, before=before, after=self._error)

    def look(self, path: Path) -> None:
        """Take or refuse what has been in the file for two looks and was not judged before."""
        try:
            data = read_bytes(path)
        except PolicyError as error:
            if self._is_settled(str(error)):
                self._refuse(error, None)
            return
        digest = digest_of(data)
        if self._is_settled(digest):
            try:
                policy = self._policy_of(path, data)
            except PolicyError as error:
                self._refuse(error, digest)
            else:
                self._take(policy, digest)
                self._telemetry.add(signals.POLICY_RELOADS)
                logger.info("policy %s of %s is in force", digest[:12], path)

    def _is_settled(self, found: str) -> bool:
        is_same, self._seen = found == self._seen, found
        return is_same and found != self._judged

    def _policy_of(self, path: Path, data: bytes) -> Policy:
        file = YamlFile.parse(path, data)
        policy = file.model(Policy)
        upstream = policy.rollout.otherwise if policy.rollout is not None else None
        if upstream is not None and upstream.api_key_env is not None and not self._secret(upstream.api_key_env):
            words = "this environment variable of the gateway is not set"
            raise file.error(("rollout", "otherwise", "api_key_env"), words)
        return policy

    def _take(self, policy: Policy, digest: str) -> None:
        self.current, self.digest, self._since, self._error = policy, digest, self._clock(), None
        self._seen = self._judged = digest

    def _refuse(self, error: PolicyError, digest: str | None) -> None:
        self._judged = self._seen
        self._error = {"message": str(error), "digest": digest, "at_ms": round(1_000 * self._clock())}
        self._telemetry.add(signals.POLICY_RELOAD_FAILURES)
        logger.error("policy refused, %s stays in force: %s", (self.digest or "none")[:12], error)


def digest_of(data: bytes) -> str:
    """SHA-256 as hex digits, as `sha256sum` prints it."""
    return sha256(data).hexdigest()
