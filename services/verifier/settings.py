"""What the verifier reads from the environment."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from services.verifier.bus import MAX_LABELS
from services.verifier.deletion_cost import PodApi
from shared.errors import ConfigurationError
from shared.inference.buckets import Load
from shared.messages import MAX_DEPTH, MAX_WIDTH
from shared.scripts import MAX_COMMIT_ROWS
from shared.settings import PREFIX, EngineSettings, Port

POD_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


def _also(name: str) -> AliasChoices:
    """A variable that has its usual name besides ours."""
    return AliasChoices(f"{PREFIX}{name}", name)


class VerifierSettings(EngineSettings):
    """The verifier's settings."""

    http_port: Port = 9103
    target: str = Field(description="directory or hub id of the target model")
    tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="processes that share the model, on cuda each with a GPU of its own"
    )
    context_limit: int | None = Field(default=None, ge=2, description="prompt and output; at most the model's own")
    max_running: int = Field(default=64, ge=1, le=MAX_COMMIT_ROWS, description="requests in one batch")
    prefill_chunk: int = Field(default=256, ge=1, le=65_536, description="prompt tokens per forward pass")
    prefix_cache: bool = Field(
        default=True,
        description="whether KV of earlier requests of the same tenant is used for the same beginnings",
    )
    max_step_nodes: int = Field(default=2048, ge=1, le=65_536, description="tree nodes accepted per step")
    ring_deadline_cap_ms: float = Field(default=250.0, ge=5.0, le=60_000.0, description="longest wait for trees")
    max_labels: int = Field(
        default=MAX_LABELS, ge=256, le=2**24, description="labels of a temperature bucket before all count half"
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="how long requests are served on after SIGTERM if nobody takes over",
    )
    depth: int = Field(default=4, ge=1, le=MAX_DEPTH, description="tree depth until the selector has spoken")
    width: int = Field(default=3, ge=1, le=MAX_WIDTH, description="tree width until the selector has spoken")
    pod_deletion_cost: bool = Field(
        default=False, description="tell Kubernetes by the pod's annotation how much live KV it has"
    )
    pod_name: str | None = Field(default=None, pattern=POD_NAME, validation_alias=_also("POD_NAME"))
    pod_namespace: str | None = Field(default=None, pattern=POD_NAME, validation_alias=_also("POD_NAMESPACE"))
    kubernetes_service_host: str = Field(
        default="kubernetes.default.svc",
        min_length=1,
        max_length=253,
        validation_alias=_also("KUBERNETES_SERVICE_HOST"),
    )
    kubernetes_service_port: Port = Field(default=443, validation_alias=_also("KUBERNETES_SERVICE_PORT"))
    service_account_dir: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount"), description="`token` and `ca.crt`"
    )

    @field_validator("tensor_parallel")
    @classmethod
    def _one_device_each(cls, ranks: int, others: ValidationInfo) -> int:
        device = others.data.get("device", "cpu")
        if ranks > 1 and ":" in device:
            raise ValueError(f"needs {PREFIX}DEVICE=cuda and not {device}, for rank r runs on cuda:r")
        return ranks

    @property
    def largest_pass(self) -> int:
        """Tokens of one forward pass: a tree's nodes, what is decoded plainly, and prompts."""
        return self.max_step_nodes + self.max_running + self.prefill_chunk

    def load(self, context_limit: int) -> Load:
        """What forward passes are usually like, of a model that knows so many positions."""
        return Load(rows=self.max_running, chunk=self.prefill_chunk, context=self.context_limit or context_limit)

    def device_of(self, rank: int) -> str:
        """Where one of several ranks runs."""
        return f"cuda:{rank}" if self.device == "cuda" else self.device

    @property
    def may_load_library(self) -> bool:
        """Not as a user of its own: whoever loads functions has everybody's rights, so only gateways may."""
        return self.redis_username is None

    @property
    def own_pod(self) -> PodApi | None:
        """Where to tell the deletion cost; None where that is off. Raises ConfigurationError for no pod."""
        if not self.pod_deletion_cost:
            return None
        for variable, value in (("POD_NAME", self.pod_name), ("POD_NAMESPACE", self.pod_namespace)):
            if value is None:
                raise ConfigurationError(f"{PREFIX}POD_DELETION_COST=true needs {variable}, which is not set")
        return PodApi(
            host=self.kubernetes_service_host,
            port=self.kubernetes_service_port,
            namespace=self.pod_namespace or "",
            pod=self.pod_name or "",
            account=self.service_account_dir,
        )


def stay_on_this_machine() -> None:
    """Ranks talk to each other over the loopback interface, where the operator has named no other one."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
