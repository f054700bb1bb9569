"""Who owns what, as the answers of the server tell: counts what was reached, and finds what must never happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from shared.replies import text
from shared.usage import Usage
from tests.faults.line import Words

_COMMIT_ARGUMENTS = 11


class Violation(AssertionError):
    """A client has lost something, or got something wrong; the text says what."""


class Ledger:
    """Follows claims, commits, releases and reseeds on the wire.

    ``breaches`` are rules of the scripts that were broken, even if no client has noticed. ``has_heartbeat`` tells
    whether a verifier's key exists now. After Redis has forgotten, ownership is unknown until the next claim or
    reseed of a request.
    """

    def __init__(self, has_heartbeat: Callable[[str], bool]) -> None:
        self._has_heartbeat = has_heartbeat
        self._epochs: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self.finished: set[str] = set()  # since Redis last forgot
        self._ended: set[str] = set()  # the same, in any way
        self.used = Usage()  # what must have been counted, as far as the wire tells
        self.num_cancelled = 0  # since Redis last forgot: only Redis knows where they stood
        self._starts: dict[str, int] = {}  # where the prompts end
        self.counts: Counter[str] = Counter()
        self.takeovers: Counter[str] = Counter()  # by request
        self.breaches: list[str] = []
        self.num_commits = 0
        self.num_forgotten = 0

    def forget(self, used: Usage) -> None:
        """Redis has lost data: what was known of ownership counts no more. It still has ``used`` on account."""
        for known in (self._epochs, self._owners, self.finished, self._ended):
            known.clear()
        self.num_forgotten += 1
        self.used, self.num_cancelled = used, 0

    def observe(self, command: Words, reply: Any) -> None:
        """One command and its answer, whether or not the sender lives to read it."""
        if isinstance(reply, Exception) or not command:
            return
        if command[0] == "XCLAIM" and reply:
            self.counts["reclaim"] += 1
        if command[0] != "FCALL":
            return
        num_keys = int(command[2])
        names, arguments = command[3 : 3 + num_keys], command[3 + num_keys :]
        watch = {
            "adaserve_enqueue": self._enqueued,
            "adaserve_claim": self._claimed,
            "adaserve_commit": self._committed,
            "adaserve_release": self._released,
            "adaserve_reseed": self._reseeded,
            "adaserve_cancel": self._cancelled,
            "adaserve_attach": self._attached,
        }.get(command[1])
        if watch is not None:
            watch(names, arguments, reply)

    def _enqueued(self, _names: Words, arguments: Words, _reply: Any) -> None:
        self._starts[arguments[1]] = int(arguments[6])

    def _claimed(self, _names: Words, arguments: Words, reply: Any) -> None:
        _, request, verifier, owner, _, epoch, *_ = arguments
        status = text(reply[0])
        self.counts[f"claim {status}"] += 1
        if status != "OK":
            return
        before, self._owners[request] = self._owners.get(request, owner), verifier
        is_repeated = self._epochs.get(request) == epoch
        self._epochs[request] = epoch
        if before in ("", verifier) or is_repeated:
            return
        self.counts["takeover"] += 1
        self.takeovers[request] += 1
        if self._has_heartbeat(before):
            self.breaches.append("a request was taken from a verifier with a heartbeat")

    def _committed(self, names: Words, arguments: Words, reply: Any) -> None:
        for row, status in enumerate(reply[1:]):
            start = 1 + row * _COMMIT_ARGUMENTS
            request, epoch = arguments[start : start + 2]
            end, finish = int(arguments[start + 4]), arguments[start + 8]
            self.counts[f"commit {text(status)}"] += 1
            if text(status) != "OK":
                continue
            self.num_commits += 1
            if self._epochs.setdefault(request, epoch) != epoch:
                self.breaches.append("a commit under another epoch than the owner's was taken")
            if request in self._ended:
                self.breaches.append("a request that had ended took a commit")
            if finish:
                self.finished.add(request)
                self._ended.add(request)
                prompt = self._starts[request]
                self.used += Usage(requests=1, prompt_tokens=prompt, output_tokens=end - prompt)

    def _released(self, _names: Words, arguments: Words, reply: Any) -> None:
        self.counts[f"release {text(reply)}"] += 1
        if text(reply) == "OK":
            self._epochs[arguments[1]], self._owners[arguments[1]] = "0", ""

    def _reseeded(self, _names: Words, arguments: Words, reply: Any) -> None:
        status = text(reply[0])
        self.counts[f"reseed {status} by {'verifier' if arguments[2] else 'gateway'}"] += 1
        if status == "OK":
            self._epochs[arguments[1]] = arguments[4] if arguments[2] else "0"
            self._owners[arguments[1]] = arguments[2]

    def _cancelled(self, _names: Words, arguments: Words, reply: Any) -> None:
        self.counts[f"cancel {text(reply)}"] += 1
        if text(reply) == "OK":
            self._ended.add(arguments[1])
            self.used += Usage(requests=1, prompt_tokens=self._starts[arguments[1]])
            self.num_cancelled += 1

    def _attached(self, _names: Words, _arguments: Words, reply: Any) -> None:
        self.counts["attach"] += 1
