"""What the gateway answers, field by field, for the OpenAPI document: a field that is not here is not answered.

Replies are built without these models (`responses`, `accounts`, `logprobs`); tests hold both against each other.
A field that `may_be_absent` is left out where there is nothing to tell; one that may be null is always there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.modes import Mode

REQUEST_ID = "[0-9a-f]{32}"
Milliseconds = float
FinishReason = Literal["stop", "length"]


def may_be_absent() -> Any:
    """A field that is not always told."""
    return Field(default=None, json_schema_extra=_forget_default)


def _forget_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class Reply(BaseModel):
    """Base of all: unknown fields are forbidden."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorDetails(Reply):
    """Figures for programs: what can be had now, or the limit of the tenant that is reached."""

    achievable_tpot_ms: Milliseconds = may_be_absent()
    rpm: int = may_be_absent()
    tpm: int = may_be_absent()
    max_concurrent: int = may_be_absent()


class Error(Reply):
    """OpenAI's error object."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error", "service_unavailable_error"]
    param: str | None = Field(description="the field or header at fault")
    code: str = Field(pattern="^[a-z0-9_]+$")
    adaserve: ErrorDetails = may_be_absent()


class ErrorReply(Reply):
    """Every answer other than success, and the data of an `error` event inside a stream."""

    error: Error


class PromptTokensDetails(Reply):
    """``cached_tokens``: those whose KV an earlier request of the tenant had left."""

    cached_tokens: int = Field(ge=0)


class Usage(Reply):
    """Tokens; of several choices the prompt counts once."""

    prompt_tokens: int = Field(ge=1)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=1)
    prompt_tokens_details: PromptTokensDetails


class SpeculativeDecoding(Reply):
    """What speculation gave, under vLLM's names."""

    mean_acceptance_length: float | None = Field(ge=1)
    draft_acceptance_rate: float | None = Field(ge=0, le=1)
    num_draft_tokens: int = Field(ge=0)
    num_accepted_draft_tokens: int = Field(ge=0)
    num_spec_steps: int = Field(ge=0)


class SloVerdict(Reply):
    """Targets as they were served, in ms, and whether they were attained; null without one."""

    service_class: str = Field(alias="class")
    tpot_target_ms: Milliseconds | None = Field(ge=0)
    tpot_raised_from_ms: Milliseconds | None = Field(ge=0, description="the target below the tenant's least")
    ttft_target_ms: Milliseconds | None = Field(ge=0)
    tpot_ms: Milliseconds = Field(ge=0)
    met: bool | None


class Metrics(Reply):
    """How fast it was; null where there is nothing to tell."""

    time_to_first_token_ms: Milliseconds | None = Field(ge=0)
    generation_time_ms: Milliseconds = Field(ge=0)
    queue_time_ms: Milliseconds | None = Field(ge=0)
    mean_itl_ms: Milliseconds = Field(ge=0, description="TPOT")
    tokens_per_second: float | None = Field(ge=0)
    speculative_decoding: SpeculativeDecoding
    acceptance: Literal["exact", "typical"]
    slo: SloVerdict


class TopLogprob(Reply):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply):
    """One entry for each token of the choice or chunk."""

    content: list[TokenLogprob]
    refusal: None


class CompletionLogprobs(Reply):
    """One entry for each token of the choice or chunk; `top_logprobs` also name the token itself."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class AssistantMessage(Reply):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Reply):
    index: int = Field(ge=0)
    message: AssistantMessage
    token_ids: list[int] = may_be_absent()
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Reply):
    """A whole answer of `/v1/chat/completions`."""

    id: str = Field(pattern=f"^chatcmpl-{REQUEST_ID}$")
    object: Literal["chat.completion"]
    created: int
    model: str
    service_tier: str = may_be_absent()
    choices: list[ChatChoice] = Field(min_length=1)
    usage: Usage
    metrics: Metrics
    prompt_token_ids: list[int] = may_be_absent()


class ChatDelta(Reply):
    role: Literal["assistant"] = may_be_absent()
    content: str = may_be_absent()


class ChatChunkChoice(Reply):
    index: int = Field(ge=0)
    delta: ChatDelta
    token_ids: list[int] = may_be_absent()
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Reply):
    """Data of one event of a streamed chat. The last one has no choices but usage and metrics, if asked to."""

    id: str = Field(pattern=f"^chatcmpl-{REQUEST_ID}$")
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    service_tier: str = may_be_absent()
    choices: list[ChatChunkChoice]
    usage: Usage | None = may_be_absent()
    metrics: Metrics = may_be_absent()
    obfuscation: str = may_be_absent()
    prompt_token_ids: list[int] = may_be_absent()


class CompletionChoice(Reply):
    index: int = Field(ge=0)
    text: str
    token_ids: list[int] = may_be_absent()
    prompt_token_ids: list[int] = may_be_absent()
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(Reply):
    """A whole answer of `/v1/completions`."""

    id: str = Field(pattern=f"^cmpl-{REQUEST_ID}$")
    object: Literal["text_completion"]
    created: int
    model: str
    service_tier: str = may_be_absent()
    choices: list[CompletionChoice] = Field(min_length=1)
    usage: Usage
    metrics: Metrics


class CompletionChunkChoice(Reply):
    index: int = Field(ge=0)
    text: str
    token_ids: list[int] = may_be_absent()
    prompt_token_ids: list[int] = may_be_absent()
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Reply):
    """Data of one event of a streamed completion. The last one tells usage and metrics, if asked to."""

    id: str = Field(pattern=f"^cmpl-{REQUEST_ID}$")
    object: Literal["text_completion"]
    created: int
    model: str
    service_tier: str = may_be_absent()
    choices: list[CompletionChunkChoice]
    usage: Usage | None = may_be_absent()
    metrics: Metrics = may_be_absent()
    obfuscation: str = may_be_absent()


class SloOffer(Reply):
    """A class that the tenant may use, with the targets that it gives now."""

    service_class: str = Field(alias="class")
    tpot_ms: Milliseconds | None
    ttft_ms: Milliseconds | None
    tier: int = Field(ge=0, le=3)
    is_default: bool


class Model(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int = Field(ge=1, description="tokens of prompt and output together")
    slo_classes: list[SloOffer]


class ModelList(Reply):
    object: Literal["list"]
    data: list[Model]


class CancelledStream(Reply):
    """`status` is `cancelled`, or how the request had ended before."""

    id: str = Field(pattern=f"^{REQUEST_ID}$")
    object: Literal["stream"]
    status: Literal["cancelled", "finished", "poisoned"]


class Tokens(Reply):
    count: int = Field(ge=0)
    max_model_len: int = Field(ge=1)
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Reply):
    prompt: str


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

    tenants: list[str]
    otherwise: str = Field(description="plain, or the URL of the other server")
    steps: list[float]
    step: int | None
    share: float | None
    since_ms: int | None
    halted: str | None
    next: NextMove
    objectives: dict[str, float]
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
