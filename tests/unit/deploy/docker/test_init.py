"""Compose's first container: secrets that nobody gave, for each service its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.acl.__main__ import TEMPLATE
from deploy.acl.file import acl_file
from deploy.acl.users import USERS
from deploy.docker import init
from shared.api_keys import Verdict, judge
from shared.errors import ConfigurationError
from shared.key_file import parse_key_file


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_redis_knows_the_passwords_that_services_get(tmp_path: Path) -> None:
    init.fill(tmp_path, TEMPLATE, {"ADASERVE_CELL": "eu-1"})
    passwords = {user: (tmp_path / user / "redis" / "password").read_text().strip() for user in USERS}
    assert len(set(passwords.values())) == len(USERS)
    hashes = {user: sha256(password.encode()).hexdigest() for user, password in passwords.items()}
    assert (tmp_path / "redis" / "users.acl").read_text() == acl_file("eu-1", hashes)


def test_the_clients_key_opens_the_gateway(tmp_path: Path) -> None:
    init.fill(tmp_path, TEMPLATE, {})
    key = (tmp_path / "client" / "api-key").read_text().strip()
    file = tmp_path / "gateway" / "keys" / "keys.yaml"
    verdict, _ = judge(parse_key_file(file, file.read_bytes()), key, 1.8e12)
    assert verdict is Verdict.OK
    assert key.split("-", 2)[2].encode() not in file.read_bytes()


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    init.fill(tmp_path, TEMPLATE, {})
    before = files(tmp_path)
    init.fill(tmp_path, TEMPLATE, {"ADASERVE_ADMIN_KEY": "another", "ADASERVE_API_KEY": "sk-a-b"})
    assert files(tmp_path) == before


def test_a_second_start_needs_no_capability(tmp_path: Path) -> None:
    """Compose drops them all: root may then not write into a file that is read-only."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("drops capabilities: needs root and setpriv")
    bare = [setpriv, "--bounding-set=-all", "--inh-caps=-all"]
    for _ in range(2):
        words = [*bare, sys.executable, "-m", "deploy.docker.init", str(tmp_path / "secrets"), str(TEMPLATE)]
        done = subprocess.run(words, capture_output=True, check=False, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_given_keys_are_taken(tmp_path: Path) -> None:
    init.fill(tmp_path, TEMPLATE, {"ADASERVE_ADMIN_KEY": "a" * 32, "ADASERVE_API_KEY": "sk-mine-secret"})
    assert (tmp_path / "gateway" / "auth" / "admin-key").read_text() == "a" * 32 + "\n"
    assert (tmp_path / "client" / "api-key").read_text() == "sk-mine-secret\n"


def test_what_is_no_key_or_no_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADASERVE_API_KEY: must be sk-<id>-<secret>"):
        init.fill(tmp_path / "a", TEMPLATE, {"ADASERVE_API_KEY": "secret"})
    other = tmp_path / "users.acl"
    other.write_text("user guest reset on #__HASH_guest__\n")
    with pytest.raises(ConfigurationError, match=r"a user that init\.py makes no password for"):
        init.fill(tmp_path / "b", other, {})
