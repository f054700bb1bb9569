"""A file that an operator changes while the gateway runs: looked at again and again, never taken by half.

A change counts when two looks in a row have found the same bytes, so that a file that is being written is left
alone. Bytes are compared, not times: a ConfigMap's links, a file put in another's place and one that is written
over are all the same here.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from shared.errors import PolicyError
from shared.yaml_file import read_bytes


class FollowedFile:
    """Whoever follows it reads it once, and then looks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._known = ""

    def read(self) -> bytes:
        """What is in it now, which is known from then on. Raises PolicyError."""
        data = read_bytes(self.path)
        self._seen = self._known = digest_of(data)
        return data

    @property
    def version(self) -> str:
        """Of what is known: its digest, "" before it was read."""
        return self._known

    def look(self) -> bytes | None:
        """What is new in it; None while nothing is, or it has been there for one look only.

        Raises PolicyError, once, where it cannot be read any more.
        """
        try:
            data = read_bytes(self.path)
        except PolicyError as error:
            if self._is_new(str(error)):
                raise
            return None
        return data if self._is_new(digest_of(data)) else None

    def _is_new(self, found: str) -> bool:
        is_settled, self._seen = found == self._seen, found
        if not is_settled or found == self._known:
            return False
        self._known = found
        return True


def digest_of(data: bytes) -> str:
    """SHA-256 as hex digits, as `sha256sum` prints it."""
    return sha256(data).hexdigest()
