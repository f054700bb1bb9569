"""API keys, `sk-<key id>-<secret>`: what is stored of them, and whether one that was given is good. Pure.

Only a digest of the secret is stored. SHA-256 is enough for it: the secret is 256 random bits, so there is nothing
to guess that a slow hash would have to protect, and a slow one would let strangers keep the gateway busy.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Self

import msgpack

from shared.errors import ConfigurationError, UnreadableMessage

MAX_NOTE = 256  # characters
MAX_SECRETS = 8  # of one key: the newest, and older ones in their grace
MAX_KEYS = 100_000

_ID = re.compile(r"[a-z0-9]{1,32}")  # no dash: the first one after the id ends it
_MAX_GIVEN = 256
_MAX_BYTES = 4096
_NOBODY = bytes(32)  # what a secret is compared with where there is no key


class Scope(StrEnum):
    """What a key opens: the completion endpoints, or /admin."""

    INFERENCE = "inference"
    ADMIN = "admin"


class Verdict(StrEnum):
    """Of a key that was given. MALFORMED is none of ours, UNKNOWN also one with a wrong secret."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret's SHA-256, and until when it is good (ms since the epoch; None: as long as the key)."""

    digest: bytes
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key; times in ms since the epoch. Of two records with one id the one changed later holds."""

    id: str
    tenant: str
    scopes: tuple[Scope, ...]
    created_ms: int
    changed_ms: int
    secrets: tuple[StoredSecret, ...]
    expires_ms: int | None = None
    revoked_ms: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check_id(self.id)
        if not 1 <= len(self.secrets) <= MAX_SECRETS or any(len(one.digest) != 32 for one in self.secrets):
            raise ConfigurationError(
                f"key {self.id}: must have 1 to {MAX_SECRETS} secrets with digests of 32 bytes"
            )
        if not self.scopes:
            raise ConfigurationError(f"key {self.id}: needs at least one scope of {', '.join(Scope)}")
        if len(self.note) > MAX_NOTE:
            raise ConfigurationError(
                f"key {self.id}: its note has {len(self.note)} characters; at most {MAX_NOTE}"
            )

    def pack(self) -> bytes:
        """As Redis holds it."""
        stored = [(one.digest, one.until_ms) for one in self.secrets]
        times = (self.created_ms, self.changed_ms, self.expires_ms, self.revoked_ms)
        packed: bytes = msgpack.packb([self.id, self.tenant, [*self.scopes], times, stored, self.note])
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Raises UnreadableMessage."""
        try:
            if len(packed) > _MAX_BYTES:
                raise ValueError(f"{len(packed)} bytes")
            key_id, tenant, scopes, times, stored, note = msgpack.unpackb(packed, max_ext_len=0)
            created_ms, changed_ms, expires_ms, revoked_ms = times
            return cls(
                id=str(key_id),
                tenant=str(tenant),
                scopes=tuple(Scope(scope) for scope in scopes),
                created_ms=int(created_ms),
                changed_ms=int(changed_ms),
                secrets=tuple(StoredSecret(bytes(digest), _optional(until)) for digest, until in stored),
                expires_ms=_optional(expires_ms),
                revoked_ms=_optional(revoked_ms),
                note=str(note),
            )
        except (ValueError, TypeError, ConfigurationError, msgpack.UnpackException) as error:
            raise UnreadableMessage(f"api key: {type(error).__name__}") from None

    def verdict(self, now_ms: float) -> Verdict:
        """Of the key itself, whatever the secret."""
        if self.revoked_ms is not None:
            return Verdict.REVOKED
        return Verdict.EXPIRED if self.expires_ms is not None and now_ms >= self.expires_ms else Verdict.OK

    def revoked(self, now_ms: int) -> ApiKey:
        """Never good again."""
        return self if self.revoked_ms is not None else self._changed(now_ms, revoked_ms=now_ms)

    def rotated(self, digest: bytes, now_ms: int, grace_ms: int) -> ApiKey:
        """With a new secret; those before it go on for the grace at most. Raises ConfigurationError."""
        if self.verdict(now_ms) is not Verdict.OK:
            raise ConfigurationError(f"key {self.id} is {self.verdict(now_ms)}; create a new one")
        end_ms = now_ms + grace_ms
        kept = [
            StoredSecret(one.digest, min(end_ms, end_ms if one.until_ms is None else one.until_ms))
            for one in self.secrets
            if grace_ms > 0 and (one.until_ms is None or one.until_ms > now_ms)
        ]
        if len(kept) >= MAX_SECRETS:
            raise ConfigurationError(
                f"key {self.id} has {len(kept)} older secrets in their grace, at most {MAX_SECRETS - 1} are kept; "
                "rotate with --grace 0s"
            )
        return self._changed(now_ms, secrets=(StoredSecret(digest), *kept))

    def _changed(self, now_ms: int, **values: Any) -> ApiKey:
        """Later than what was before, even where this clock is behind the one that wrote that."""
        return replace(self, changed_ms=max(now_ms, self.changed_ms + 1), **values)


def check_id(key_id: str) -> None:
    """Raises ConfigurationError."""
    if not _ID.fullmatch(key_id):
        raise ConfigurationError(f"key id {key_id[:64]!r}: must be 1 to 32 of the letters a to z and digits")


def new_id() -> str:
    """A key's id: 64 random bits as hex digits."""
    return secrets.token_hex(8)


def new_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """What is stored of a secret."""
    return sha256(secret.encode("utf-8", "replace")).digest()


def spelled(key_id: str, secret: str) -> str:
    """The key as its user gets it."""
    return f"sk-{key_id}-{secret}"


def judge(keys: Mapping[str, ApiKey], given: str, now_ms: float) -> tuple[Verdict, ApiKey | None]:
    """Whether a key that was given is good now, and the record that its id names, if there is one.

    Hashes and compares whether or not there is such a key: the time tells nothing about ids, nor about secrets.
    What is wrong besides the secret is said to those only who know it.
    """
    prefix, _, rest = given[:_MAX_GIVEN].partition("-")
    key_id, _, secret = rest.partition("-")
    key = keys.get(key_id)
    digest = digest_of(secret)
    matches = [
        hmac.compare_digest(digest, one.digest) and (one.until_ms is None or now_ms < one.until_ms)
        for one in (key.secrets if key is not None else (StoredSecret(_NOBODY),))
    ]
    if prefix != "sk" or not secret or len(given) > _MAX_GIVEN:
        return Verdict.MALFORMED, None
    if key is None:
        return Verdict.UNKNOWN, None
    return (key.verdict(now_ms) if any(matches) else Verdict.UNKNOWN), key


def merged(held: Mapping[str, ApiKey], read: Mapping[str, ApiKey]) -> tuple[dict[str, ApiKey], list[ApiKey]]:
    """Both together, and what of `held` has to be written to where `read` came from, which has forgotten it.

    So neither a key nor its revocation is lost while one gateway that knew it lives.
    """
    newer = [key for key in held.values() if key.id not in read or read[key.id].changed_ms < key.changed_ms]
    return {**read, **{key.id: key for key in newer}}, newer


def unpack_keys(packed: Mapping[Any, bytes]) -> tuple[dict[str, ApiKey], list[str]]:
    """Keys by id, and the ids of records that cannot be read. Raises UnreadableMessage for too many."""
    if len(packed) > MAX_KEYS:
        raise UnreadableMessage(f"{len(packed)} API keys; at most {MAX_KEYS} are read")
    found, unreadable = {}, []
    for name, record in packed.items():
        key_id = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        try:
            key = ApiKey.unpack(record)
        except UnreadableMessage:
            unreadable.append(key_id)
            continue
        found[key.id] = key
    return found, unreadable


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)
