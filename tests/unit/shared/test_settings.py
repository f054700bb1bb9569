"""Settings: one frozen reading of the environment, or one line that says what is wrong."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from shared import settings
from shared.errors import ConfigurationError


class Ring(BaseModel):
    deadline_cap_ms: float = Field(default=250, gt=0)


class Example(settings.EngineSettings):
    ring: Ring = Ring()
    http_port: settings.Port = 9103


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ADASERVE_", "REDIS_URL", "OTEL_")):
            monkeypatch.delenv(name)


def test_defaults_hold_without_any_variable() -> None:
    example = settings.read(Example)
    assert (example.redis_url, example.cell, example.http_port) == ("redis://127.0.0.1:6379/0", "default", 9103)
    assert example.name
    with pytest.raises(ValidationError):
        example.cell = "other"  # type: ignore[misc]


def test_variables_reach_fields_and_nested_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_CELL", "eu-1")
    monkeypatch.setenv("ADASERVE_RING__DEADLINE_CAP_MS", "80")
    monkeypatch.setenv("ADASERVE_LOG_LEVEL", "debug")
    example = settings.read(Example)
    assert (example.cell, example.ring.deadline_cap_ms, example.log_level) == ("eu-1", 80, "DEBUG")


@pytest.mark.parametrize(
    ("device", "graphs", "expected"),
    [("cpu", "true", False), ("cuda", "true", True), ("cuda:1", "true", True), ("cuda", "false", False)],
)
def test_passes_are_recorded_on_cuda_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, device: str, graphs: str, *, expected: bool
) -> None:
    monkeypatch.setenv("ADASERVE_DEVICE", device)
    monkeypatch.setenv("ADASERVE_CUDA_GRAPHS", graphs)
    assert settings.read(Example).is_recorded is expected


def test_the_prefixed_redis_url_wins_over_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://a:1/0")
    assert settings.read(Example).redis_url == "redis://a:1/0"
    monkeypatch.setenv("ADASERVE_REDIS_URL", "unix:///run/b.sock")
    assert settings.read(Example).redis_url == "unix:///run/b.sock"


def test_an_unknown_variable_is_named_with_the_nearest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_HTTP_PROT", "1")
    with pytest.raises(
        ConfigurationError, match=r"ADASERVE_HTTP_PROT is not a setting \(did you mean ADASERVE_HTTP_PORT"
    ):
        settings.read(Example)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=20))
def test_only_known_names_pass(suffix: str) -> None:
    known = settings.known_variables(Example)
    name = f"ADASERVE_{suffix}"
    assert bool(settings.unknown_variables({name: "1"}, known)) == (name not in known)
    assert settings.unknown_variables({f"X{name}": "1"}, known) == []


@pytest.mark.parametrize(
    ("variable", "value", "limit"),
    [
        ("HTTP_PORT", "99999", "65535"),
        ("HTTP_PORT", "many", "integer"),
        ("DTYPE", "float8", "float64"),
        ("THREADS", "0", "1"),
        ("CELL", "a{b}", "pattern"),
        ("LOG_LEVEL", "loud", "DEBUG"),
        ("RING__DEADLINE_CAP_MS", "-1", "0"),
    ],
)
def test_a_bad_value_is_one_line_with_field_value_and_limit(
    variable: str, value: str, limit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"ADASERVE_{variable}", value)
    with pytest.raises(SystemExit) as exit_info:
        settings.load(Example)
    assert exit_info.value.code == settings.EXIT_CONFIGURATION
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert all(
        part in line
        for part in (f"ADASERVE_{variable}", value.upper() if variable == "LOG_LEVEL" else value, limit)
    )


def test_a_redis_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(ConfigurationError, match=r"^ADASERVE_REDIS_URL: .*redis://") as caught:
        settings.read(Example)
    assert "hunter2" not in str(caught.value)


def test_malformed_nested_json_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_RING", "{not json")
    with pytest.raises(ConfigurationError, match="ring"):
        settings.read(Example)


class Required(Example):
    target: str


def test_a_missing_variable_is_named_and_nothing_else_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_REDIS_URL", "redis://user:hunter2@host")
    with pytest.raises(ConfigurationError, match=r"^ADASERVE_TARGET is required$"):
        settings.read(Required)


def test_load_returns_the_settings() -> None:
    assert settings.load(Example).http_port == 9103


def test_otlp_signals_follow_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.otlp_signals() == frozenset()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    assert settings.otlp_signals() == {"traces"}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert settings.otlp_signals() == {"traces", "metrics"}
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert settings.otlp_signals() == {"traces"}
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert settings.otlp_signals() == frozenset()
