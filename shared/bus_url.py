"""The URL of Redis, completed by what should not be in an environment: user, password, and whom to trust."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from shared.errors import ConfigurationError

TLS = "rediss"
PASSWORD_FILE, CA_FILE = "ADASERVE_REDIS_PASSWORD_FILE", "ADASERVE_REDIS_CA_FILE"
MAX_SECRET_BYTES = 4_096


def mounted(url: str, *, username: str | None, password_file: Path | None, ca_file: Path | None) -> str:
    """`completed` by files. Raises ConfigurationError as it does, and for files that hold not what they should."""
    password = None if password_file is None else secret_in(password_file, PASSWORD_FILE)
    if ca_file is not None and not ca_file.is_file():
        raise ConfigurationError(f"{CA_FILE}={str(ca_file)!r}: there is no such file")
    return completed(url, username=username, password=password, ca_file=ca_file)


def completed(url: str, *, username: str | None, password: str | None, ca_file: Path | None) -> str:
    """`url` with what is given put into it, as redis-py reads it.

    Raises ConfigurationError where it says itself what is given besides, and for a CA without TLS.
    """
    parts = urlsplit(url)
    if username is None and password is None and ca_file is None:
        return url
    if "@" in parts.netloc and (username is not None or password is not None):
        raise ConfigurationError("REDIS_URL names a user or password already; give it there or apart, not both")
    if ca_file is not None and parts.scheme != TLS:
        raise ConfigurationError(f"a CA file needs a REDIS_URL that starts with {TLS}://, not {parts.scheme}://")
    named = quote(username or "", safe="")
    secret = "" if password is None else f":{quote(password, safe='')}"
    place = f"{named}{secret}@{parts.netloc}" if named or secret else parts.netloc
    trust = "" if ca_file is None else urlencode({"ssl_ca_certs": str(ca_file)})
    query = "&".join(filter(None, (parts.query, trust)))
    return urlunsplit((parts.scheme, place, parts.path, query, ""))


def secret_in(path: Path, variable: str) -> str:
    """The one line of a mounted secret. Raises ConfigurationError with ``variable``, never with the content."""
    try:
        text = path.read_bytes()[: MAX_SECRET_BYTES + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigurationError(f"{variable}={str(path)!r}: {reason}") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret or len(text) > MAX_SECRET_BYTES or "\n" in secret:
        raise ConfigurationError(f"{variable}={str(path)!r}: must hold one line of 1 to {MAX_SECRET_BYTES} bytes")
    return secret
