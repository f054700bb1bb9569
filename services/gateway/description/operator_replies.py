"""What the gateway answers operators, field by field, as `replies`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.description.replies import Milliseconds, Reply, may_be_absent
from shared.modes import Mode


class Version(Reply):
    version: str


class ModeOrderReply(Reply):
    mode: Mode
    reason: str
    by: str
    at_ms: int = Field(ge=0, description="Unix time in ms")


class VerifierMode(Reply):
    """How a verifier decodes now; null where its heartbeat does not tell."""

    mode: str | None
    reason: str | None
    since_ms: float | None


class Modes(Reply):
    """Orders by scope (`cell`, `tenant:<name>`, `class:<name>`), and verifiers by member."""

    orders: dict[str, ModeOrderReply]
    verifiers: dict[str, VerifierMode]


class PolicyProblem(Reply):
    """Why a policy file was refused."""

    message: str
    digest: str | None
    at_ms: int = Field(ge=0)


class PolicyInForce(Reply):
    """The policy file, its digest, and the last one that was refused since."""

    file: str | None
    digest: str | None
    since_ms: int | None
    error: PolicyProblem | None


class ClassInForce(Reply):
    """As the policy file has it; null for nothing."""

    tpot: str | None
    tpot_ms: Milliseconds | None
    ttft_ms: Milliseconds | None
    tier: int
    objective: float | None
    trace: float | None


class Promises(Reply):
    """What is promised now: to all, and to tenants with schedules of their own."""

    policy: PolicyInForce
    classes: dict[str, ClassInForce] = may_be_absent()
    tenants: dict[str, dict[str, ClassInForce]] = may_be_absent()
    schedules: list[bool] = may_be_absent()


class ArmTally(Reply):
    """Finished requests with a target since the step began."""

    attained: int = Field(ge=0)
    total: int = Field(ge=0)


class NextMove(Reply):
    move: str
    reason: str


class RolloutStage(Reply):
    """Where a staged introduction stands; null before Redis has told."""

    id: str = Field(description="the same while tenants and steps are")
    tenants: list[str]
    otherwise: str = Field(description="plain, or the URL of the other server")
    steps: list[float]
    step: int | None
    share: float | None
    since_ms: int | None
    halted: str | None
    next: NextMove
    objectives: dict[str, float]
    min_requests: int = Field(ge=1)
    margin: float = Field(ge=0, le=1)
    arms: dict[str, dict[str, ArmTally]]


class Key(Reply):
    """An API key without its secret; times in ISO 8601."""

    id: str
    tenant: str
    scopes: list[str]
    created: str
    expires: str | None
    revoked: str | None
    status: str
    earlier_secrets_until: list[str]
    note: str


class KeyWithSecret(Key):
    """`key` is told this once."""

    key: str


class KeyList(Reply):
    """``age_s``: how long ago they were read."""

    keys: list[Key]
    age_s: float = Field(ge=0)


class Change(Reply):
    """What an operator has changed."""

    at: str
    what: str
    who: str
    before: Any
    after: Any
    request_id: str


class AuditTrail(Reply):
    events: list[Change]


class Document(BaseModel):
    """This document."""

    model_config = ConfigDict(extra="allow")

    openapi: Literal["3.1.0"]
    info: dict[str, Any]
    paths: dict[str, Any]
