"""What the gateway answers, field by field, for the OpenAPI document: a field that is not here is not answered.

Replies are built without these models (`responses`, `accounts`, `logprobs`); tests hold both against each other.
A field that `may_be_absent` is left out where there is nothing to tell; one that may be null is always there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.inspect_store import PAGE

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


class Head(Reply):
    """What whole answers and chunks have in common."""

    created: int
    model: str
    service_tier: str = may_be_absent()


class Whole(Head):
    usage: Usage
    metrics: Metrics


class Chunk(Head):
    """`usage` is null in all but the last, where it is asked for at all; `obfuscation` pads a stream's events."""

    usage: Usage | None = may_be_absent()
    metrics: Metrics = may_be_absent()
    obfuscation: str = may_be_absent()


class AssistantMessage(Reply):
    role: Literal["assistant"]
    content: str
    refusal: None


class Provenance(Reply):
    """Of each of the `token_ids` whether the draft model had guessed it; null where that is not known any more."""

    drafted: list[bool | None]


class ChatChoice(Reply):
    index: int = Field(ge=0)
    message: AssistantMessage
    token_ids: list[int] = may_be_absent()
    adaserve: Provenance = may_be_absent()
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Whole):
    """A whole answer of `/v1/chat/completions`."""

    id: str = Field(pattern=f"^chatcmpl-{REQUEST_ID}$")
    object: Literal["chat.completion"]
    choices: list[ChatChoice] = Field(min_length=1)
    prompt_token_ids: list[int] = may_be_absent()


class ChatDelta(Reply):
    role: Literal["assistant"] = may_be_absent()
    content: str = may_be_absent()


class ChatChunkChoice(Reply):
    index: int = Field(ge=0)
    delta: ChatDelta
    token_ids: list[int] = may_be_absent()
    adaserve: Provenance = may_be_absent()
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Chunk):
    """Data of one event of a streamed chat. The last one has no choices but usage and metrics, if asked to."""

    id: str = Field(pattern=f"^chatcmpl-{REQUEST_ID}$")
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    prompt_token_ids: list[int] = may_be_absent()


class CompletionChoice(Reply):
    index: int = Field(ge=0)
    text: str
    token_ids: list[int] = may_be_absent()
    adaserve: Provenance = may_be_absent()
    prompt_token_ids: list[int] = may_be_absent()
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(Whole):
    """A whole answer of `/v1/completions`."""

    id: str = Field(pattern=f"^cmpl-{REQUEST_ID}$")
    object: Literal["text_completion"]
    choices: list[CompletionChoice] = Field(min_length=1)


class CompletionChunkChoice(Reply):
    index: int = Field(ge=0)
    text: str
    token_ids: list[int] = may_be_absent()
    adaserve: Provenance = may_be_absent()
    prompt_token_ids: list[int] = may_be_absent()
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Chunk):
    """Data of one event of a streamed completion. The last one tells usage and metrics, if asked to."""

    id: str = Field(pattern=f"^cmpl-{REQUEST_ID}$")
    object: Literal["text_completion"]
    choices: list[CompletionChunkChoice]


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
    zero_load_ms: Milliseconds | None = Field(description="time per token of an idle verifier by itself")
    slo_classes: list[SloOffer]


class ModelList(Reply):
    object: Literal["list"]
    data: list[Model]


class CancelledStream(Reply):
    """`status` is `cancelled`, or how the request had ended before."""

    id: str = Field(pattern=f"^{REQUEST_ID}$")
    object: Literal["stream"]
    status: Literal["cancelled", "finished", "poisoned"]


class Node(Reply):
    """A guess of the draft model: `parent` is another node's place, -1 the context's end."""

    parent: int = Field(ge=-1)
    token: int = Field(ge=0)
    text: str
    p: float = Field(ge=0, le=1, description="that the path to here is accepted, calibrated where that is known")
    phase: Literal["slo", "throughput"] | None = Field(description="for what it was chosen; null: it was not")
    accepted: bool


class OwnToken(Reply):
    token: int = Field(ge=0)
    text: str


class Iteration(Reply):
    """One step of one request; 0 and null where the selector has told nothing of it."""

    position: int = Field(ge=0, description="of the first token that it brought")
    mode: str
    step: int = Field(ge=0, description="of the ring; 0: no trees came for it")
    tpot_target_ms: Milliseconds | None
    tpot_ms: Milliseconds | None = Field(description="up to then")
    need: float | None = Field(description="tokens that the target asked of this step, A(r)")
    budget: int = Field(ge=0, description="tokens in the forward pass: roots and chosen nodes of all rows")
    rows: int = Field(ge=0, description="requests that decoded in it")
    depth: int = Field(ge=0)
    width: int = Field(ge=0)
    draft_ms: Milliseconds | None
    select_ms: Milliseconds | None
    predicted_ms: Milliseconds | None = Field(description="from asking for trees to the commit")
    verify_ms: Milliseconds | None = Field(description="the forward pass, as measured")
    nodes: list[Node]
    own: OwnToken | None = Field(description="the target's own token; null where a stop fell on a drafted one")


class Inspected(Reply):
    """A page of iterations after the cursor that was given, oldest first; `cursor` is for the next look."""

    id: str = Field(pattern=f"^{REQUEST_ID}$")
    object: Literal["inspect"]
    cursor: str = Field(pattern="^[0-9]+-[0-9]+$")
    more: bool = Field(description="whether to look again at once, for what is there already")
    iterations: list[Iteration] = Field(max_length=PAGE)


class Tokens(Reply):
    count: int = Field(ge=0)
    max_model_len: int = Field(ge=1)
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Reply):
    prompt: str
