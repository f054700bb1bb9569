"""The environment, read once per process.

A service declares one frozen subclass of `ServiceSettings`; `load` turns `ADASERVE_*` variables into it or stops
the start with one line that names the variable, its value and the limit. A variable no field knows is a
misspelled option, so it stops the start too (pydantic-settings alone would ignore it).
"""

from __future__ import annotations

import difflib
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.bus_url import mounted
from shared.errors import ConfigurationError

PREFIX = "ADASERVE_"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
EXIT_CONFIGURATION = 2  # the launcher does not restart a service that ends with it
EXIT_BUS_UNAVAILABLE = 3  # Redis did not answer at the start; worth another try
HTTP, GRPC = "http/protobuf", "grpc"  # of OTLP

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Port = Annotated[int, Field(ge=0, le=65535)]


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


def _host_name() -> str:
    """The machine's (on Kubernetes the pod's) name, limited to what a member name may hold."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", platform.node().partition(".")[0])[:64] or "local"


class ServiceSettings(BaseSettings):
    """What every service reads. Subclasses add fields and set their own `http_port`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, populate_by_name=True, validate_default=True
    )

    # A URL may hold a password: repr=False keeps the value out of error lines as well.
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices(f"{PREFIX}REDIS_URL", "REDIS_URL"),
        repr=False,
    )
    redis_username: str | None = Field(default=None, min_length=1, max_length=256, description="ACL user")
    redis_password_file: Path | None = Field(default=None, description="its password, as a mounted secret")
    redis_ca_file: Path | None = Field(default=None, description="PEM of whom to trust, for rediss://")
    redis_patience_s: float = Field(
        default=0.0, ge=0.0, le=3600.0, description="seconds to wait at the start for a Redis that does not answer"
    )
    cell: Name = Field(default="default", description="hash tag of all keys")
    name: Name = Field(default_factory=_host_name, description="member name, before the boot nonce")
    http_host: str = "127.0.0.1"
    http_port: Port = Field(default=0, description="0 takes any free port")
    log_level: LogLevel = "INFO"

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not url.startswith(REDIS_SCHEMES):
            raise ValueError(f"must start with one of {', '.join(REDIS_SCHEMES)}")
        return url

    @property
    def bus_url(self) -> str:
        """`redis_url` with user, password and CA: a secret. Raises ConfigurationError, also for bad files."""
        return mounted(
            self.redis_url,
            username=self.redis_username,
            password_file=self.redis_password_file,
            ca_file=self.redis_ca_file,
        )


class EngineSettings(ServiceSettings):
    """What the two services with a model read besides: where and how it runs."""

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    kv_memory_mb: int = Field(default=256, ge=1, le=1_048_576)
    threads: int = Field(default=1, ge=1, le=1024, description="torch threads of this process")
    cuda_graphs: bool = Field(
        default=True, description="on cuda, record forward passes and replay them; not those of several ranks"
    )

    @property
    def is_recorded(self) -> bool:
        """Whether forward passes are recorded and replayed, where this process runs the whole model."""
        return self.cuda_graphs and self.device != "cpu"


AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def known_variables(settings: type[BaseSettings]) -> frozenset[str]:
    """Every environment variable `settings` reads, nested fields included."""
    names: set[str] = set()
    for field, info in settings.model_fields.items():
        names |= _names_of(info, f"{PREFIX}{field}".upper())
    return frozenset(names)


def _names_of(info: FieldInfo, name: str) -> set[str]:
    if isinstance(info.validation_alias, AliasChoices):
        return {str(choice) for choice in info.validation_alias.choices}
    names = {name}
    for model in _models_in(info.annotation):
        for field, nested in model.model_fields.items():
            names |= _names_of(nested, f"{name}__{field}".upper())
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def unknown_variables(environment: Mapping[str, str], known: frozenset[str]) -> list[str]:
    """One clause for each `ADASERVE_*` variable outside `known`, with the nearest known name."""
    clauses = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)
            clauses.append(f"{name} is not a setting" + (f" (did you mean {near[0]}?)" if near else ""))
    return clauses


def read(settings: type[AnySettings]) -> AnySettings:
    """The settings of this process.

    Raises ConfigurationError naming every unknown variable and every malformed or out-of-range value.
    """
    unknown = unknown_variables(os.environ, known_variables(settings))
    if unknown:
        raise ConfigurationError("; ".join(unknown))
    try:
        return settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_clause(settings, line) for line in error.errors())) from None
    except SettingsError as error:  # a nested value that is not the JSON it should be
        raise ConfigurationError(str(error)) from None


def _clause(settings: type[BaseSettings], line: Any) -> str:
    """`VARIABLE='value': what it must be`; the value is left out where it may be a secret."""
    field = str(line["loc"][0]) if line["loc"] else ""
    info = settings.model_fields.get(field)
    path = "__".join(str(part) for part in line["loc"])
    secret = field.upper().endswith("REDIS_URL") or (info is not None and not info.repr)
    variable = path.upper() if path.upper().startswith((PREFIX, "REDIS_URL")) else f"{PREFIX}{path}".upper()
    if line["type"] == "missing":  # its "input" would be all the other values
        return f"{variable} is required"
    shown = "" if secret else f"={line['input']!r}"
    return f"{variable}{shown}: {line['msg'].removeprefix('Value error, ')}"


def load(settings: type[AnySettings]) -> AnySettings:
    """`read`, or one line on stderr and exit code 2."""
    try:
        return read(settings)
    except ConfigurationError as error:
        stop(error)


def stop(error: Exception, code: int = EXIT_CONFIGURATION) -> NoReturn:
    """End the process with one line an operator can act on."""
    sys.stderr.write(f"adaserve: {error}\n")
    raise SystemExit(code)


def otlp_signals() -> frozenset[str]:
    """Which of "traces" and "metrics" the standard `OTEL_*` variables send somewhere.

    The OpenTelemetry SDK reads the same variables for the endpoint itself; this only tells whether there is one,
    because its default is a collector on this machine that is usually not there.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return frozenset()
    return frozenset(signal for signal in ("traces", "metrics") if _has_endpoint(signal.upper()))


def otlp_protocol(signal: str) -> str:
    """HTTP or GRPC, for "traces" or "metrics". Raises ConfigurationError for another one."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if os.environ.get(name)), names[-1])
    protocol = os.environ.get(name) or HTTP
    if protocol not in (HTTP, GRPC):
        raise ConfigurationError(f"{name}={protocol!r}: must be {HTTP} or {GRPC}")
    return protocol


def _has_endpoint(signal: str) -> bool:
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "").lower() == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(os.environ.get(name) for name in names)
