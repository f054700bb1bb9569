"""One hop of the bare ring, as a process: `python -m bench.limits.relay SOCKET FROM TO`.

Reads a stream, and writes the body of each entry to another: no client library, no codec, no work. Ends with its
parent, which closes its standard input.
"""

from __future__ import annotations

import sys
import threading

from bench.limits.wire import Wire


def relay(wire: Wire, source: str, destination: str, is_over: threading.Event) -> None:
    """Until ``is_over``. Each turn is one write: the answer to the last entry, and the next read."""
    read = ("XREAD", "BLOCK", 200, "STREAMS", source)
    cursor: bytes | str = "0-0"
    wire.send((*read, cursor))
    while not is_over.is_set():
        reply = wire.receive()
        if not reply:
            wire.send((*read, cursor))
            continue
        cursor, fields = reply[0][1][-1]
        wire.send(
            ("XADD", destination, "MAXLEN", "~", 256, "*", "body", fields[1]),
            (*read, cursor),
        )
        wire.receive()


def main() -> None:
    """Until standard input ends."""
    url, source, destination = sys.argv[1:]
    is_over = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=await_end, daemon=True).start()
    relay(Wire(url), source, destination, is_over)


if __name__ == "__main__":
    main()
