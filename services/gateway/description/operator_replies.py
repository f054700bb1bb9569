"""What the gateway answers operators, field by field, as `replies`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.description.replies import Milliseconds, Reply, may_be_absent
from shared.modes import Mode
from shared.usage import Period


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
    tpot_ms: Milliseconds | None = Field(description="the target; a multiple is resolved")
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
    draining: bool = Field(description="whether this gateway is being stopped and takes no more requests")
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


class UsageCounts(Reply):
    """Of requests that ended; what was cached, drafted and accepted is as the verifiers told."""

    requests: int = Field(ge=0)
    prompt_tokens: int = Field(ge=0)
    cached_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0, description="committed positions")
    drafted_tokens: int = Field(ge=0)
    accepted_tokens: int = Field(ge=0)
    steps: int = Field(ge=0, description="forward passes that brought tokens")
    met: int = Field(ge=0)
    missed: int = Field(ge=0)


class UsageRow(UsageCounts):
    """``start`` of the hour or day, ISO 8601, UTC."""

    start: str
    tenant: str
    slo_class: str = Field(alias="class")


class UsageReport(Reply):
    """Whole hours from ``since`` up to ``until``; rows by time, tenant and class."""

    object: Literal["usage"]
    since: str
    until: str
    by: Period
    rows: list[UsageRow]
    totals: UsageCounts


class RequestTargets(Reply):
    """null: none."""

    tpot_target_ms: Milliseconds | None
    ttft_target_ms: Milliseconds | None


class RequestTiming(Reply):
    """On Redis' clock; arrived, first and last token as Unix time in ms. null: not yet."""

    arrived_ms: Milliseconds | None
    gateway_ms: Milliseconds | None
    queue_ms: Milliseconds | None
    compile_ms: Milliseconds | None
    admit_ms: Milliseconds | None
    prefill_ms: Milliseconds | None
    first_token_ms: Milliseconds | None
    last_token_ms: Milliseconds | None
    ttft_ms: Milliseconds | None
    tpot_ms: Milliseconds | None
    generation_ms: Milliseconds | None
    preempted_ms: Milliseconds | None
    unserved_ms: Milliseconds | None = Field(description="without a verifier, after its first token")
    restart_ms: Milliseconds | None


class RequestTokens(Reply):
    prompt: int = Field(ge=0)
    cached: int = Field(ge=0)
    output: int = Field(ge=0)


class RequestSpeculation(Reply):
    """Means are of steps with a tree; null without one."""

    drafted_tokens: int = Field(ge=0)
    accepted_tokens: int = Field(ge=0)
    mean_tree_size: float | None
    mean_accepted: float | None


class RequestSteps(Reply):
    """What its steps went into, from its first token on; ``late``: its need did not fit the budget."""

    total: int = Field(ge=0)
    speculative: int = Field(ge=0)
    bare: int = Field(ge=0)
    bare_reasons: dict[str, int]
    late: int = Field(ge=0)
    prefill: int = Field(ge=0)
    waited_ring_ms: Milliseconds | None
    forward_ms: Milliseconds | None
    predicted_forward_ms: Milliseconds | None
    alone_ms: Milliseconds | None = Field(description="what as many passes for one token would have taken")
    other_prefill_ms: Milliseconds | None
    commit_ms: Milliseconds | None
    mean_batch_requests: float | None
    mean_batch_tokens: float | None
    mean_batch_prompt_tokens: float | None


class RequestCause(Reply):
    """A part of the time and what of the miss it is owed, per output token of a TPOT."""

    cause: str
    ms: Milliseconds | None
    share_ms: Milliseconds | None


class RequestCauses(Reply):
    ttft: list[RequestCause]
    tpot: list[RequestCause]


class RequestAccount(Reply):
    """``is_partial``: verifiers know more, or did; ``explanation``: sentences."""

    id: str
    object: Literal["request"]
    tenant: str
    slo_class: str = Field(alias="class")
    status: Literal["queued", "running", "finished", "cancelled", "poisoned"]
    finish: str | None
    verdict: Literal["met", "missed", "none"]
    is_partial: bool
    slo: RequestTargets
    timing: RequestTiming
    tokens: RequestTokens
    speculation: RequestSpeculation
    steps: RequestSteps
    takeovers: int = Field(ge=0)
    preemptions: int = Field(ge=0)
    causes: RequestCauses
    explanation: list[str]


class Document(BaseModel):
    """This document."""

    model_config = ConfigDict(extra="allow")

    openapi: Literal["3.1.0"]
    info: dict[str, Any]
    paths: dict[str, Any]
