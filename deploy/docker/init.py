"""Compose's first container: makes the secrets of a cell that nobody has given, and Redis' file of users.

    init.py FOLDER TEMPLATE     # FOLDER/<user>/… is for that service alone; TEMPLATE is the chart's users.acl

What is there stays, so a second start changes nothing. ADASERVE_ADMIN_KEY and ADASERVE_API_KEY in its environment
are taken in place of keys of its own; the client's key is then in FOLDER/client/api-key.
"""

from __future__ import annotations

import os
import secrets
import sys
from hashlib import sha256
from pathlib import Path

from shared.api_keys import digest_of, new_id, new_secret, spelled
from shared.errors import ConfigurationError

USERS = ("gateway", "drafter", "selector", "verifier", "operator", "exporter")
TENANT = "default"
READABLE = 0o444  # whoever mounts a folder may read it; nobody else has it


def kept(file: Path, made: str) -> str:
    """What is in the file, which gets `made` where there is none."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{made}\n", encoding="utf-8")
        file.chmod(READABLE)
    return file.read_text(encoding="utf-8").rstrip("\n")


def users_file(template: str, cell: str, passwords: dict[str, str]) -> str:
    """The chart's file with a cell and hashes. Raises ConfigurationError where a place is left over."""
    filled = template.replace("__CELL__", cell)
    for user, password in passwords.items():
        filled = filled.replace(f"__HASH_{user}__", sha256(password.encode()).hexdigest())
    if "__" in filled:
        raise ConfigurationError("users.acl names a user that init.py makes no password for")
    return filled


def key_file(key: str) -> str:
    """The gateway's file with one key. Raises ConfigurationError for what is no key."""
    kind, _, rest = key.partition("-")
    key_id, _, secret = rest.partition("-")
    if kind != "sk" or not key_id or not secret:
        raise ConfigurationError("ADASERVE_API_KEY: must be sk-<id>-<secret>")
    return f"keys:\n  {key_id}:\n    tenant: {TENANT}\n    sha256: {digest_of(secret).hex()}"


def fill(folder: Path, template: Path, environment: dict[str, str]) -> None:
    """Everything that the compose file mounts. Raises ConfigurationError."""
    passwords = {user: kept(folder / user / "redis" / "password", secrets.token_urlsafe(32)) for user in USERS}
    users = folder / "redis" / "users.acl"
    users.parent.mkdir(parents=True, exist_ok=True)
    cell = environment.get("ADASERVE_CELL") or "default"
    fresh = users.with_suffix(".new")  # without capabilities root cannot write into a file that is read-only
    fresh.unlink(missing_ok=True)
    fresh.write_text(users_file(template.read_text(encoding="utf-8"), cell, passwords), encoding="utf-8")
    fresh.chmod(READABLE)
    fresh.replace(users)
    kept(folder / "gateway" / "auth" / "admin-key", environment.get("ADASERVE_ADMIN_KEY") or new_secret())
    given = environment.get("ADASERVE_API_KEY") or spelled(new_id(), new_secret())
    key = kept(folder / "client" / "api-key", given)
    kept(folder / "gateway" / "keys" / "keys.yaml", key_file(key))
    kept(folder / "grafana" / "password", secrets.token_urlsafe(16))


def main() -> None:
    """One line on stderr and exit code 2 for what is not as it should be."""
    try:
        fill(Path(sys.argv[1]), Path(sys.argv[2]), dict(os.environ))  # noqa: TID251 - this is its edge
    except ConfigurationError as error:
        sys.exit(f"init: {error}")


if __name__ == "__main__":
    main()
