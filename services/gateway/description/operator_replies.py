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


class LiveClass(Reply):
    """Requests with a target that ended at this gateway in five minutes; null where the policy says nothing."""

    name: str
    objective: float | None
    tpot_ms: Milliseconds | None = Field(description="the target")
    requests: int = Field(ge=0)
    met: int = Field(ge=0)
    attainment: float | None = Field(ge=0, le=1)
    goodput_tokens_per_s: float = Field(ge=0)


class DepthAcceptance(Reply):
    """Of drafted edges whose parent was reached."""

    depth: int = Field(ge=1)
    accepted: int = Field(ge=0)
    rejected: int = Field(ge=0)


class LiveVerifier(Reply):
    """A verifier now and in its last ten seconds; null until it has heard that somebody looks: in a second."""

    name: str
    mode: str | None
    mode_reason: str | None
    mode_since_ms: float | None
    running: int | None
    waiting: int | None
    prefilling: int | None
    kv_used: int | None = Field(description="blocks")
    kv_total: int | None
    steps_per_s: float | None
    tokens_per_s: float | None
    budget_used: int | None = Field(description="tokens in forward passes with trees")
    slo_nodes: int | None
    throughput_nodes: int | None
    accepted: int | None
    selected: int | None = Field(description="nodes that were verified")
    acceptance_by_depth: list[DepthAcceptance]
    calibration_error: float | None
    expected_accepted: float | None
    realised_accepted: int | None
    drafter: str | None


class Member(Reply):
    name: str


class LiveRequest(Reply):
    """`slack_ms`: how long it takes until the next token is late, negative where it is; null without a target."""

    id: str
    tenant: str
    service_class: str = Field(alias="class")
    verifier: str
    state: Literal["waiting", "prefilling", "decoding"]
    position: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    tpot_ms: Milliseconds | None
    tpot_target_ms: Milliseconds | None
    slack_ms: Milliseconds | None


class LiveTier(Reply):
    tier: int = Field(ge=0, le=3)
    waiting: int = Field(ge=0)
    oldest_s: float = Field(ge=0)


class LiveQueue(Reply):
    tiers: list[LiveTier]


class LiveRedis(Reply):
    """`max_bytes` 0 is no limit."""

    used_bytes: int = Field(ge=0)
    max_bytes: int = Field(ge=0)


class Live(Reply):
    """The cell now: ids and figures, no text."""

    at_ms: int = Field(ge=0, description="Redis' clock")
    cell: str
    gateway: str
    classes: list[LiveClass]
    verifiers: list[LiveVerifier]
    drafters: list[Member]
    selectors: list[Member]
    gateways: list[Member]
    requests: list[LiveRequest] = Field(max_length=100, description="least slack first")
    queue: LiveQueue
    redis: LiveRedis


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
