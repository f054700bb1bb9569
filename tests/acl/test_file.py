"""The file that the table makes, and that no name of a key was forgotten in it."""

from __future__ import annotations

import inspect
import sys
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.acl import __main__ as command
from deploy.acl.file import acl_file, allowed, template
from deploy.acl.key_classes import KINDS, patterns
from deploy.acl.users import USERS
from shared.errors import ConfigurationError
from shared.topics import Keys

KEYS = Keys("eu-1")
HASH = sha256(b"x").hexdigest()
NOT_NAMES = {"cell", "prefix"}


def every_key() -> dict[str, list[str]]:
    """What each public name of `Keys` spells for odd and ordinary arguments."""
    arguments = {"tier": [0, 3], "since_ms": [1_790_000_000_000], "kind": list(KINDS)}
    found: dict[str, list[str]] = {}
    for name, member in inspect.getmembers(Keys):
        if name.startswith("_") or name in NOT_NAMES:
            continue
        if not callable(member):
            found[name] = [getattr(KEYS, name)]
            continue
        words = list(inspect.signature(member).parameters)[1:]
        calls: list[list[object]] = [[]]
        for word in words:
            calls = [[*call, value] for call in calls for value in arguments.get(word, ["a", "some-pod.1a2b:c"])]
        found[name] = [getattr(KEYS, name)(*call) for call in calls]
    return found


@pytest.mark.parametrize(("name", "spelled"), every_key().items())
def test_every_name_of_a_key_is_of_one_class(name: str, spelled: list[str]) -> None:
    for key in spelled:
        key = f"{key}:requests:acme:1" if name == "spent" else key
        classes = [found for found, pattern in patterns(KEYS.cell).items() if fnmatchcase(key, pattern)]
        assert len(classes) == 1, (key, classes)


def test_every_class_has_somebody_who_writes_and_nobody_has_all() -> None:
    for name in patterns("c"):
        having = {user for user, about in USERS.items() if any(name in of for of in allowed(about).values())}
        assert having < set(USERS)
        assert having or name == "incarnation"  # which no release uses yet


def test_hints_come_without_rights_on_requests() -> None:
    for user in ("drafter", "selector"):
        classes = {name for of in allowed(USERS[user]).values() for name in of}
        assert not classes & {"request", "journal", "owned", "requests", "released", "tokens", "api_keys", "usage"}
        assert not USERS[user].functions


def test_the_chart_has_the_present_file() -> None:
    assert command.TEMPLATE.read_text() == template(), "python -m deploy.acl --template"


def test_the_template_is_the_file_with_its_places_filled() -> None:
    filled = template().replace("__CELL__", "eu-1")
    for user in USERS:
        filled = filled.replace(f"__HASH_{user}__", HASH)
    assert filled == acl_file("eu-1", dict.fromkeys(USERS, HASH))
    assert "__" not in filled


def test_who_has_no_password_is_off() -> None:
    lines = dict(line.split(" ", 2)[1:] for line in acl_file("eu-1", {"gateway": HASH}).splitlines())
    assert lines["gateway"].startswith(f"reset on #{HASH} ")
    assert all(rest.startswith("reset off") for user, rest in lines.items() if user != "gateway")


@pytest.mark.parametrize(
    ("cell", "hashes", "message"),
    [
        ("a{b", {"gateway": HASH}, "cell 'a{b' must be 1 to 64"),
        ("a", {"admin": HASH}, "'admin' is no user; there are gateway, drafter"),
        ("a", {"gateway": "secret"}, "gateway: the SHA-256 of a password has 64 hex digits"),
    ],
)
def test_what_would_make_no_file_is_refused(cell: str, hashes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        acl_file(cell, hashes)


def test_the_command_reads_passwords_and_tells_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway-password").write_text("x\n")
    monkeypatch.setattr(sys, "argv", ["acl", "--cell", "eu-1", "--passwords", str(tmp_path)])
    command.main()
    assert capsys.readouterr().out == acl_file("eu-1", {"gateway": HASH})


def test_the_command_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["acl", "--passwords", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "has no file such as gateway-password" in capsys.readouterr().err
