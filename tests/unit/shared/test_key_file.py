"""API keys from a YAML file (shared/key_file.py)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from shared.api_keys import ApiKey, Scope, Verdict, judge
from shared.errors import PolicyError
from shared.key_file import parse_key_file

DIGEST = sha256(b"secret").hexdigest()


def loaded(path: Path) -> dict[str, ApiKey]:
    return parse_key_file(path, path.read_bytes())


def write(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def test_keys_of_a_file_are_good(tmp_path: Path) -> None:
    text = f"""
keys:
  abc:
    tenant: acme
    sha256: {DIGEST}
    expires: 2027-01-31T00:00:00Z
    created: "2026-01-01"
    note: on disk
  0ps:
    {{tenant: operators, sha256: {DIGEST}, scopes: [admin, inference], expires: 2028-01-01}}
"""
    keys = loaded(write(tmp_path, text))
    assert judge(keys, "sk-abc-secret", 1_800_000_000_000.0)[0] is Verdict.OK
    assert judge(keys, "sk-abc-secret", 1_801_353_600_000.0)[0] is Verdict.EXPIRED
    assert (keys["abc"].tenant, keys["abc"].scopes, keys["abc"].note) == ("acme", (Scope.INFERENCE,), "on disk")
    assert keys["abc"].created_ms == keys["abc"].changed_ms == 1_767_225_600_000
    assert keys["0ps"].scopes == (Scope.ADMIN, Scope.INFERENCE)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("abc: {tenant: acme}", "keys.abc.sha256: is required"),
        ("abc: {tenant: acme, sha256: secret}", "keys.abc.sha256"),
        (f"A-c: {{tenant: acme, sha256: {DIGEST}}}", "line 2"),
        (f"abc: {{tenant: acme, sha256: {DIGEST}, scopes: [root]}}", "keys.abc.scopes.0"),
        (f"abc: {{tenant: acme, sha256: {DIGEST}, scopes: []}}", "keys.abc.scopes"),
        (f"abc: {{tenant: acme, sha256: {DIGEST}, expires: soon}}", "ISO 8601"),
        (f"abc: {{tenant: acme, sha256: {DIGEST}, expires: 5}}", "ISO 8601"),
        (f"abc: {{tenant: acme, sha256: {DIGEST}, secret: x}}", "no such field"),
    ],
)
def test_a_bad_entry_is_named_with_its_line(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(PolicyError, match=r"keys\.yaml, line 2") as error:
        loaded(write(tmp_path, f"keys:\n  {entry}\n"))
    assert words in str(error.value)


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="keys"):
        loaded(write(tmp_path, "keys: {}\n"))
