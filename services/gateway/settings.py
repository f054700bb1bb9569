"""The gateway's settings, from `ADASERVE_*` variables."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field

from services.gateway.request_span import MISSED_PER_S
from shared.bus_url import secret_in
from shared.errors import ConfigurationError
from shared.messages import MAX_CONTEXT
from shared.settings import PREFIX, Name, Port, ServiceSettings

MIN_ADMIN_KEY, MAX_ADMIN_KEY = 16, 256


class GatewaySettings(ServiceSettings):
    """What the gateway reads. `target` is a model directory or hub id: tokenizer and config, no weights."""

    http_port: Port = 8000
    target: str = Field(min_length=1)
    served_name: Name | None = Field(default=None, description="model id; the directory's name by default")
    default_max_tokens: int = Field(
        default=MAX_CONTEXT,
        ge=1,
        le=MAX_CONTEXT,
        description="for requests that give none; the context bounds it too",
    )
    queue_limit: int = Field(
        default=1024, ge=1, le=1_000_000, description="queued requests of one tier; the lowest takes a quarter"
    )
    policy_file: Path | None = Field(default=None, description="YAML file of classes and tenants")
    refuse_unreachable: bool = Field(
        default=True, description="a 429 for targets that cannot be met at this load, in place of a late answer"
    )
    verifier_patience_s: float = Field(
        default=30.0, gt=0, le=3600, description="how long a request waits while no verifier lives"
    )
    resume_grace_s: float = Field(
        default=30.0, gt=0, le=3600, description="how long a resumable request waits for a client that left"
    )
    keep_alive_s: float = Field(default=15.0, gt=0, le=3600, description="between comments on a silent stream")
    slow_client_s: float = Field(
        default=30.0, gt=0, le=3600, description="how long a client may leave its stream unread"
    )
    padding: bool = Field(default=False, description="pads all streams whose requests do not say otherwise")
    padding_bytes: int = Field(default=256, ge=16, le=16_384, description="of which a padded event is a multiple")
    max_inspected: int = Field(
        default=8,
        ge=0,
        le=128,
        description="requests of the cell that may be inspected at a time; eight times as many are kept",
    )
    drain_s: int = Field(default=30, ge=0, le=3600, description="how long open streams may go on after SIGTERM")
    trust_traceparent: bool = Field(
        default=False,
        description="trace whatever a client traces, also above the share that its class is traced by",
    )
    trace_missed: bool = Field(
        default=True,
        description="a span for each request that missed its SLO or failed, though it was not sampled",
    )
    trace_missed_per_s: float = Field(
        default=MISSED_PER_S, gt=0, le=10_000, description="so many of those, of this gateway; the rest is counted"
    )
    admin_key: str | None = Field(
        default=None,
        min_length=MIN_ADMIN_KEY,
        max_length=MAX_ADMIN_KEY,
        repr=False,
        description="for /admin; without it, loopback only",
    )
    admin_key_file: Path | None = Field(default=None, description="that key as a mounted secret")
    keys_file: Path | None = Field(default=None, description="YAML file of API keys, besides those in Redis")
    unsafe_open_bind: bool = Field(
        default=False, description="listen beyond loopback although nobody is asked for a key"
    )
    allowed_hosts: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_., -]*$",
        max_length=4096,
        description="names that it may be asked by on loopback while it asks for no key, with commas between",
    )

    @property
    def host_names(self) -> frozenset[str]:
        """Names in `allowed_hosts`, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    @property
    def admin_secret(self) -> str | None:
        """The admin key, from wherever it is. Raises ConfigurationError for a file that has none."""
        if self.admin_key_file is None:
            return self.admin_key
        variable = f"{PREFIX}ADMIN_KEY_FILE"
        if self.admin_key is not None:
            raise ConfigurationError(f"{variable} and {PREFIX}ADMIN_KEY are both set; give one")
        found = secret_in(self.admin_key_file, variable)
        if not MIN_ADMIN_KEY <= len(found) <= MAX_ADMIN_KEY:
            place = f"{variable}={str(self.admin_key_file)!r}"
            raise ConfigurationError(f"{place}: must hold {MIN_ADMIN_KEY} to {MAX_ADMIN_KEY} characters")
        return found

    @property
    def model_id(self) -> str:
        """What clients call the model."""
        return self.served_name or self.target.rstrip("/").rpartition("/")[2] or self.target


def secret(variable: str) -> str | None:
    """The value of a variable that the policy names for a key, or of the file `<variable>_FILE` names; else None.

    Raises ConfigurationError for a file that cannot be read.
    """
    file = os.environ.get(f"{variable}_FILE")
    return secret_in(Path(file), f"{variable}_FILE") if file else os.environ.get(variable) or None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
