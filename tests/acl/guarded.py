"""A cell whose Redis lets in nobody but the users of deploy/acl, over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from redis import Redis

from bench.local import LocalStack, free_port
from deploy.acl.file import acl_file
from deploy.acl.users import USERS
from shared.embedded_redis import EmbeddedRedis
from shared.errors import ConfigurationError
from shared.streams import connect
from tests.acl.authority import Certificate, issue
from tests.acl.tls_front import tls_front

CELL = "eu-1"
JUDGE = "judge"


@dataclass(frozen=True)
class GuardedRedis:
    """`judge` has every right and comes in by the server's own socket."""

    url: str
    folder: Path
    judge: Redis
    speaks_tls: bool

    def variables(self, user: str) -> dict[str, str]:
        """A service's settings, without their prefix."""
        return {
            "CELL": CELL,
            "REDIS_USERNAME": user,
            "REDIS_PASSWORD_FILE": str(self.folder / f"{user}-password"),
            "REDIS_CA_FILE": str(self.folder / "ca.crt"),
        }

    def refusals(self) -> list[dict[str, object]]:
        """What users were refused: `who`, and what it was."""
        found: list[dict[str, object]] = self.judge.acl_log(count=100)
        return [{name: entry[name] for name in ("username", "reason", "object", "context")} for entry in found]


@contextmanager
def guarded_redis(folder: Path, binary: str | None = None) -> Iterator[GuardedRedis]:
    """A server with the users' passwords in ``folder``; where it has no TLS, that is put in front of it."""
    passwords = {user: f"p%@: {user}/1" for user in USERS}  # as awkward as a URL may get
    for user, password in passwords.items():
        (folder / f"{user}-password").write_text(f"{password}\n")
    hashes = {user: sha256(password.encode()).hexdigest() for user, password in passwords.items()}
    users = folder / "users.acl"
    users.write_text(acl_file(CELL, hashes) + f"user {JUDGE} on nopass ~* &* +@all\n")
    shown = issue(folder)
    with ExitStack() as stack:
        server, port, speaks_tls = _server(stack, users, shown, binary)
        judge = stack.enter_context(closing(connect(f"unix://{JUDGE}:any@{server.socket}")))
        yield GuardedRedis(f"rediss://127.0.0.1:{port}/0", folder, judge, speaks_tls)


def _server(
    stack: ExitStack, users: Path, shown: Certificate, binary: str | None
) -> tuple[EmbeddedRedis, int, bool]:
    port, common = free_port(), {"aclfile": str(users)}
    tls = {
        "tls-port": str(port),
        "tls-cert-file": str(shown.certificate),
        "tls-key-file": str(shown.key),
        "tls-ca-cert-file": str(shown.authority),
        "tls-auth-clients": "no",
    }
    try:
        return stack.enter_context(EmbeddedRedis(binary=binary, options=common | tls)), port, True
    except ConfigurationError as error:
        if "TLS" not in str(error):
            raise
    server = stack.enter_context(EmbeddedRedis(binary=binary, options=common))
    return server, stack.enter_context(tls_front(server.socket, shown)), False


def cell_of(redis: GuardedRedis, settings: dict[str, dict[str, str]]) -> LocalStack:
    """Services that each come as their own user; `settings` name services, `gateway-2` being another gateway."""
    chosen = {
        name: redis.variables(name.partition("-")[0]) | {"NAME": name} | given for name, given in settings.items()
    }
    return LocalStack(redis.url, redis.folder, chosen, {"OMP_NUM_THREADS": "1"})
