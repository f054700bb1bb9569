"""Secrets of the gateway from mounted files: the admin key, and keys that a policy names."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings, secret
from shared.errors import ConfigurationError

KEY = "a-long-enough-admin-key"


def settings(**given: object) -> GatewaySettings:
    return GatewaySettings(target="t", **given)  # type: ignore[arg-type]


def test_the_admin_key_is_the_variable_or_the_one_line_of_its_file(tmp_path: Path) -> None:
    assert settings().admin_secret is None
    assert settings(admin_key=KEY).admin_secret == KEY
    (tmp_path / "admin-key").write_text(f"{KEY}\n")
    assert settings(admin_key_file=tmp_path / "admin-key").admin_secret == KEY


def test_both_are_refused_without_showing_either(tmp_path: Path) -> None:
    (tmp_path / "admin-key").write_text(KEY)
    with pytest.raises(
        ConfigurationError, match="ADASERVE_ADMIN_KEY_FILE and ADASERVE_ADMIN_KEY are both set"
    ) as caught:
        _ = settings(admin_key=KEY, admin_key_file=tmp_path / "admin-key").admin_secret
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("short", "must hold 16 to 256 characters"),
        ("x" * 257, "16 to 256"),
        ("", "one line"),
        ("a\nb\n", "one line"),
    ],
)
def test_a_file_without_a_good_key_is_refused_by_name(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "admin-key"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"^ADASERVE_ADMIN_KEY_FILE='{file}': .*{words}"):
        _ = settings(admin_key_file=file).admin_secret


def test_a_variable_of_the_policy_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret("OLD_SERVER_KEY") is None
    monkeypatch.setenv("OLD_SERVER_KEY", "sk-a")
    assert secret("OLD_SERVER_KEY") == "sk-a"
    monkeypatch.setenv("OLD_SERVER_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigurationError, match=r"^OLD_SERVER_KEY_FILE=.*No such file"):
        secret("OLD_SERVER_KEY")
    (tmp_path / "key").write_text("sk-b\n")
    assert secret("OLD_SERVER_KEY") == "sk-b"
