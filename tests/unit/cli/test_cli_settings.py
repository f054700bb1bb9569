"""Dividing the launcher's environment: each service gets what it reads, nothing gets lost."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import settings
from shared.errors import ConfigurationError

KNOWN = {"gateway": frozenset({"ADASERVE_TARGET", "ADASERVE_CELL"}), "drafter": frozenset({"ADASERVE_CELL"})}
names = st.sampled_from(["ADASERVE_TARGET", "ADASERVE_CELL", "PATH", "HOME", "REDIS_URL"])


@given(st.dictionaries(names, st.text(max_size=5)))
def test_every_variable_reaches_exactly_the_services_that_read_it(environment: dict[str, str]) -> None:
    divided = settings.divide(environment, KNOWN)
    for service, known in KNOWN.items():
        ours = {name for name in environment if name in known}
        others = {name for name in environment if name in ("PATH", "HOME")}
        got = {name for name in divided[service] if name in environment}
        assert got == ours | others


def test_a_variable_nobody_reads_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ConfigurationError, match=r"ADASERVE_TARGTE is not a setting \(did you mean ADASERVE_TARGET"
    ):
        settings.divide({"ADASERVE_TARGTE": "x"}, KNOWN)


def test_the_commands_own_api_key_is_known_and_goes_to_no_service() -> None:
    divided = settings.divide({"ADASERVE_API_KEY": "sk-a-b"}, KNOWN)
    assert not any("sk-a-b" in environment.values() for environment in divided.values())


def test_one_torch_thread_unless_the_operator_says_otherwise() -> None:
    assert settings.divide({}, KNOWN)["drafter"]["OMP_NUM_THREADS"] == "1"
    assert settings.divide({"OMP_NUM_THREADS": "4"}, KNOWN)["drafter"]["OMP_NUM_THREADS"] == "4"


def test_the_prefixed_redis_url_wins() -> None:
    assert settings.redis_url({}) is None
    assert settings.redis_url({"REDIS_URL": "redis://a"}) == "redis://a"
    assert settings.redis_url({"REDIS_URL": "redis://a", "ADASERVE_REDIS_URL": "redis://b"}) == "redis://b"


def test_user_password_and_ca_are_put_into_the_url_that_is_given_or_named(tmp_path: Path) -> None:
    for name, content in (("p", "s3cret\n"), ("ca", "PEM")):
        (tmp_path / name).write_text(content)
    given = {
        "REDIS_URL": "rediss://a:6380",
        "ADASERVE_REDIS_USERNAME": "operator",
        "ADASERVE_REDIS_PASSWORD_FILE": str(tmp_path / "p"),
        "ADASERVE_REDIS_CA_FILE": str(tmp_path / "ca"),
    }
    ca = f"ssl_ca_certs={quote_plus(str(tmp_path / 'ca'))}"
    assert settings.bus_url({}) is None
    assert settings.bus_url({"REDIS_URL": "redis://a"}) == "redis://a"
    assert settings.bus_url(given) == f"rediss://operator:s3cret@a:6380?{ca}"
    assert settings.bus_url(given, "rediss://b") == f"rediss://operator:s3cret@b?{ca}"


def test_a_password_without_a_redis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADASERVE_REDIS_USERNAME without REDIS_URL"):
        settings.bus_url({"ADASERVE_REDIS_USERNAME": "operator"})


def test_a_service_tells_its_settings_class() -> None:
    found = settings.settings_of("selector")
    assert found.__module__ == "services.selector.settings"
    assert found.model_fields["http_port"].default == 9102


def test_the_inherited_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    assert settings.inherited()["HOME"] == "somewhere"
