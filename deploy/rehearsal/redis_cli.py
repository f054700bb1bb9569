"""Stands for ``redis-cli`` where the machine has none: enough of it for a probe, and nothing but the library."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from io import BufferedRWPair

TIMEOUT_S = 5.0


def main() -> int:
    """Exit code 1 where the server cannot be reached or answers with an error, as the real one's."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", dest="host", default="127.0.0.1")
    parser.add_argument("-p", dest="port", type=int, default=6379)
    parser.add_argument("--user")
    parser.add_argument("-a", "--pass", dest="password", default=os.environ.get("REDISCLI_AUTH"))  # noqa: TID251
    parser.add_argument("--no-auth-warning", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    commands = [chosen.command]
    if chosen.password is not None:
        commands.insert(0, ["AUTH", *([chosen.user] if chosen.user else []), chosen.password])
    try:
        with socket.create_connection((chosen.host, chosen.port), TIMEOUT_S) as connection:
            file = connection.makefile("rwb")
            for command in commands:
                file.write(packed(command))
                file.flush()
                answer = reply(file)
                if answer.startswith("(error)"):
                    break
    except OSError as error:
        answer = f"(error) {error}"
    print(answer)
    return answer.startswith("(error)")


def packed(words: list[str]) -> bytes:
    """A command as RESP."""
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


def reply(file: BufferedRWPair) -> str:
    """One reply as text; arrays with a line for each part. Raises OSError where there is none."""
    line = file.readline().decode()
    if not line:
        raise ConnectionError("the server has closed the connection")
    kind, value = line[0], line[1:].strip()
    if kind == "-":
        return f"(error) {value}"
    if kind == "$":
        return "(nil)" if value == "-1" else file.read(int(value) + 2)[:-2].decode(errors="replace")
    if kind == "*":
        return "\n".join(reply(file) for _ in range(int(value)))
    return value


if __name__ == "__main__":
    sys.exit(main())
