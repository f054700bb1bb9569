"""What operators have changed, one JSON object an event: who, what, before, after, when. Pure.

Never a secret, a prompt or a completion: whoever records passes what people may read, and what is called like a
secret, or spelled like an API key, is left out all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared import timestamps
from shared.errors import UnreadableMessage

MAX_BYTES = 16_384
SECRET_NAMES = frozenset({"authorization", "digest", "key", "password", "prompt", "secret", "secrets", "sha256"})
LEFT_OUT = "[left out]"

_API_KEY = re.compile(r"\bsk-[A-Za-z0-9]+-[A-Za-z0-9_-]{8,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """`what` is a word such as ``mode.set``; `who` a key id, or how else somebody came in; `at_ms` by the wall
    clock."""

    what: str
    who: str
    at_ms: int
    request_id: str = ""
    before: Any = None
    after: Any = None

    def json(self) -> dict[str, Any]:
        """For people and files."""
        return {
            "at": timestamps.iso(self.at_ms),
            "what": self.what,
            "who": self.who,
            "before": _readable(self.before),
            "after": _readable(self.after),
            "request_id": self.request_id,
        }

    def line(self) -> str:
        """One line of JSON. What is longer than MAX_BYTES says so in place of its values."""
        line = json.dumps(self.json(), sort_keys=True)
        if len(line) <= MAX_BYTES:
            return line
        left_out = f"left out: the event has {len(line)} bytes, more than {MAX_BYTES}"
        return json.dumps({**self.json(), "before": left_out, "after": left_out}, sort_keys=True)


def read_line(line: bytes) -> dict[str, Any]:
    """The object of `AuditEvent.line`. Raises UnreadableMessage."""
    try:
        found = json.loads(line)
    except ValueError:
        raise UnreadableMessage("audit event: not JSON") from None
    if not isinstance(found, dict) or not {"at", "what", "who"} <= set(found):
        raise UnreadableMessage("audit event: at, what and who are missing")
    return found


def _readable(value: Any) -> Any:
    """The value without secrets. A mapping under such a name is no secret: a tenant may be called anything."""
    if isinstance(value, Mapping):
        return {
            str(name): LEFT_OUT if _is_secret(str(name), inner) else _readable(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    return _API_KEY.sub(LEFT_OUT, value) if isinstance(value, str) else value


def _is_secret(name: str, value: Any) -> bool:
    return name.lower() in SECRET_NAMES and value is not None and not isinstance(value, Mapping)
