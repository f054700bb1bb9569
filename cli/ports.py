"""TCP ports of the local stack: the gateway's is the user's choice, the workers' only a preference."""

from __future__ import annotations

import errno
import socket

from shared.errors import ConfigurationError


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host:port` now. Raises ConfigurationError for an unusable host."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ConfigurationError(f"cannot listen on host {host!r}: {error.strerror}") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not "in use"
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        return True


def require(host: str, port: int) -> int:
    """`port`, or ConfigurationError when something listens there."""
    if not is_free(host, port):
        raise ConfigurationError(f"port {port} on {host} is in use; choose another with --port")
    return port


def prefer(host: str, port: int) -> int:
    """`port` if it is free, else any free one."""
    return port if is_free(host, port) else any_free(host)


def any_free(host: str) -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
