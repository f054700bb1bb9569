"""A certificate authority of our own and one certificate, made by the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = "2"


@dataclass(frozen=True)
class Certificate:
    """PEM files: whom to trust, and what the server shows."""

    authority: Path
    certificate: Path
    key: Path


def issue(folder: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
    """A server's certificate for these names, signed by an authority that exists for it alone."""
    made = Certificate(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    _run(
        folder, "req", "-x509", *_EC, "-keyout", "ca.key", "-out", "ca.crt", "-days", _DAYS, "-subj", "/CN=a CA",
        *authority,
    )  # fmt: skip
    _run(folder, "req", *_EC, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=redis")
    _run(
        folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", _DAYS, "-extfile", "extensions", "-out", "server.crt",
    )  # fmt: skip
    return made


def _run(folder: Path, *words: str) -> None:
    subprocess.run([OPENSSL or "openssl", *words], cwd=folder, check=True, capture_output=True)
