"""Where a RESP2 frame ends, and what a command's words are: all the proxy needs to know of the protocol. Pure."""

from __future__ import annotations

_LINE = b"\r\n"


def frame_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """Index after the frame that begins at ``start``; None while it is incomplete. Raises ValueError."""
    line_end = data.find(_LINE, start)
    if line_end < 0:
        return None
    kind, after = data[start : start + 1], line_end + 2
    if kind in (b"+", b"-", b":"):
        return after
    if kind not in (b"$", b"*"):
        raise ValueError(f"no RESP2 frame begins with {bytes(kind)!r}")
    length = int(data[start + 1 : line_end])
    if kind == b"*":
        return _array_end(data, after, length)
    if length < 0:
        return after
    return after + length + 2 if len(data) >= after + length + 2 else None


def _array_end(data: bytes | bytearray, start: int, length: int) -> int | None:
    at: int | None = start
    for _ in range(length):
        assert at is not None
        at = frame_end(data, at)
        if at is None:
            return None
    return at


def words(frame: bytes) -> list[bytes]:
    """The words of a command, an array of bulk strings."""
    found, at = [], frame.index(_LINE) + 2
    for _ in range(int(frame[1 : at - 2])):
        line_end = frame.index(_LINE, at)
        length = int(frame[at + 1 : line_end])
        found.append(frame[line_end + 2 : line_end + 2 + length])
        at = line_end + 2 + length + 2
    return found
