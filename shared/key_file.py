"""API keys from a YAML file (a mounted secret), so that a gateway that starts without Redis knows some.

    keys:
      3f0c9d2b51e47a86:
        tenant: acme
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        scopes: [inference]              # or [admin], or both
        expires: 2027-12-31T00:00:00Z    # left out: never

`adaserve keys create --for-file` prints such an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from shared import timestamps
from shared.api_keys import MAX_KEYS, MAX_NOTE, ApiKey, Scope, StoredSecret
from shared.errors import ConfigurationError
from shared.settings import Name
from shared.yaml_file import Section, YamlFile, problem


def _time(value: Any) -> int:
    try:
        if isinstance(value, datetime):
            return timestamps.of_datetime(value)
        if isinstance(value, (str, date)):
            return timestamps.at_ms(str(value))
    except ConfigurationError as error:
        raise problem(str(error)) from None
    raise problem("must be an ISO 8601 time, such as 2027-12-31T00:00:00Z")


KeyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,32}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[int, BeforeValidator(_time)]
AScope = Annotated[Scope, Field(strict=False)]


class FileKey(Section):
    """One key. `sha256` is that of the secret, the part behind `sk-<key id>-`."""

    tenant: Name
    sha256: Digest
    scopes: tuple[AScope, ...] = Field(default=(Scope.INFERENCE,), min_length=1, strict=False)
    created: Time = 0
    expires: Time | None = None
    revoked: Time | None = None
    note: str = Field(default="", max_length=MAX_NOTE)

    def key(self, key_id: str) -> ApiKey:
        return ApiKey(
            id=key_id,
            tenant=self.tenant,
            scopes=self.scopes,
            created_ms=self.created,
            changed_ms=self.created,  # what was changed in Redis since, such as a revocation, holds
            secrets=(StoredSecret(bytes.fromhex(self.sha256)),),
            expires_ms=self.expires,
            revoked_ms=self.revoked,
            note=self.note,
        )


class KeyFile(Section):
    """By key id."""

    keys: Mapping[KeyId, FileKey] = Field(min_length=1, max_length=MAX_KEYS)


def parse_key_file(path: Path, data: bytes) -> dict[str, ApiKey]:
    """The keys in a file's bytes. Raises PolicyError naming the file, the line, the field and what is allowed."""
    found = YamlFile.parse(path, data).model(KeyFile)
    return {key_id: entry.key(key_id) for key_id, entry in found.keys.items()}
