"""Every span, attribute and metric name of AdaServe; the only table of them.

Metric labels list their values here, so the number of series is fixed when this file is read: a value outside its
list is counted as "other". Names that an operator gives are bounded by their number instead (`Named`). What
Prometheus calls a metric, its unit and kind appended, is `Metric.exposed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeVar

OTHER = "other"

# ---- spans: one trace of one request, parent above child ---------------------------------------------------
GATEWAY_REQUEST = "gateway.request"  # SERVER span; root unless the client sent a traceparent
GATEWAY_DELIVER = "gateway.deliver"  # from the arrival of the first token to the end of the answer
VERIFIER_QUEUE = "verifier.queue"  # from the queue entry to its claim
VERIFIER_PREFILL = "verifier.prefill"  # from the admission to the commit of the next token
VERIFIER_PREFILL_CHUNK = "verifier.prefill_chunk"  # a forward pass that has fed some of the prompt
VERIFIER_ITERATION = (
    "verifier.iteration"  # DraftRequest sent, or where there is none the step begun, until the commit
)
DRAFTER_DRAFT = "drafter.draft"
SELECTOR_SELECT = "selector.select"
VERIFIER_VERIFY = "verifier.verify"  # forward pass and acceptance
VERIFIER_COMMIT = "verifier.commit"
VERIFIER_MODE_SWITCH = "verifier.mode_switch"  # no duration: from then on the verifier decodes in another mode

PARENT_OF: Mapping[str, str | None] = {
    GATEWAY_REQUEST: None,
    VERIFIER_QUEUE: GATEWAY_REQUEST,
    VERIFIER_PREFILL: GATEWAY_REQUEST,
    VERIFIER_PREFILL_CHUNK: VERIFIER_PREFILL,
    VERIFIER_ITERATION: GATEWAY_REQUEST,
    DRAFTER_DRAFT: VERIFIER_ITERATION,
    SELECTOR_SELECT: DRAFTER_DRAFT,
    VERIFIER_VERIFY: SELECTOR_SELECT,
    VERIFIER_COMMIT: VERIFIER_ITERATION,
    VERIFIER_MODE_SWITCH: GATEWAY_REQUEST,
    GATEWAY_DELIVER: GATEWAY_REQUEST,
}

# ---- spans of a batch: roots of their own traces, linked to the sampled requests inside --------------------
DRAFTER_BATCH = "drafter.batch"
SELECTOR_BATCH = "selector.batch"
VERIFIER_STEP = "verifier.step"

# ---- attributes: the OpenTelemetry semantic conventions' (opentelemetry-semantic-conventions 0.66) ----------
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_ID = "gen_ai.response.id"
GEN_AI_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_TOP_P = "gen_ai.request.top_p"
GEN_AI_TOP_K = "gen_ai.request.top_k"
GEN_AI_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
GEN_AI_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
GEN_AI_SEED = "gen_ai.request.seed"
GEN_AI_OUTPUT_TYPE = "gen_ai.output.type"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"  # of a refusal
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# ---- attributes: our own (docs/tracing.md says how to read them) --------------------------------------------
REQUEST_ID = "adaserve.request.id"
TENANT = "adaserve.tenant"
TIER = "adaserve.tier"
ARM = "adaserve.rollout.arm"
ACCEPTANCE = "adaserve.acceptance"
FINISH_REASON = "adaserve.finish_reason"
COMMITTED_TOKENS = "adaserve.tokens.committed"
CHUNK_TOKENS = "adaserve.tokens.chunk"
NUM_CHUNKS = "adaserve.prefill.chunks"
NUM_STEPS = "adaserve.steps"
NUM_SPEC_STEPS = "adaserve.steps.speculative"
TPOT_MS = "adaserve.tpot_ms"
TTFT_MS = "adaserve.ttft_ms"
QUEUE_MS = "adaserve.queue_ms"
SLO_CLASS = "adaserve.slo.class"
SLO_TPOT_MS = "adaserve.slo.tpot_ms"  # targets, left out where there are none
SLO_TTFT_MS = "adaserve.slo.ttft_ms"
SLO_MET = "adaserve.slo.met"
SLO_NEED = "adaserve.slo.need"  # A: tokens the row must get out of this iteration to be on target after it
SLO_WEIGHT = "adaserve.slo.weight"
SLO_LATE = "adaserve.slo.late"  # even the whole tree accepted would be less than A
AFTER_THE_FACT = "adaserve.trace.after_the_fact"  # not sampled, told because the target was missed
POSITION = "adaserve.position"
IS_TAKE_OVER = "adaserve.take_over"  # this verifier goes on with what another one has begun
STEP = "adaserve.step"
RING = "adaserve.ring"
RING_MS = "adaserve.ring_ms"  # DraftRequest sent until its trees were heard
OUTCOME = "adaserve.iteration.outcome"  # speculative, plain, missed or void
NUM_ROWS = "adaserve.batch.rows"
NUM_TOKENS = "adaserve.batch.tokens"
NUM_NODES = "adaserve.tree.nodes"
NUM_SELECTED = "adaserve.tree.selected"
NUM_SLO_NODES = "adaserve.tree.selected_for_slo"
NUM_THROUGHPUT_NODES = "adaserve.tree.selected_for_throughput"
NUM_ACCEPTED = "adaserve.tree.accepted"
NUM_EXPECTED = "adaserve.tree.expected"  # accepted nodes that the draft's probabilities promise
DEPTH = "adaserve.tree.depth"
WIDTH = "adaserve.tree.width"
DRAFT_STATE = "adaserve.draft.state"  # drafted, need_context or no_room
AHEAD_LEVELS = "adaserve.draft.ahead_levels"  # of the tree, drafted before its context was known; 0: no hit
BUDGET = "adaserve.budget"
BUDGET_SHARE = "adaserve.budget.share"  # of the selected tokens: the row's root and nodes
HOP_WAIT_MS = "adaserve.hop.wait_ms"  # in the stream: from its sender's write to the reader's beginning with it
MAX_HOP_WAIT_MS = "adaserve.hop.wait_ms.max"
PREDICTED_MS = "adaserve.predicted_ms"
MEASURED_MS = "adaserve.measured_ms"
MODE = "adaserve.mode"  # the verifier's: speculative or full_verification
MODE_REASON = "adaserve.mode.reason"  # as in GET /admin/mode; empty where nothing objects

# ---- metrics -----------------------------------------------------------------------------------------------
STEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
HOP_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TPOT_SECONDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
RELATIVE_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
TOKEN_COUNTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Named(tuple[str, ...]):
    """Values that are always there; beside them the first MAX_NAMES that are used."""

    __slots__ = ()


MAX_NAMES = 64
MAX_ZEROS = 16  # series of a counter that are there, at 0, before anything is counted
_SUFFIXES = {"s": "_seconds", "By": "_bytes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """Name (with prefix), UCUM unit ("" or braces for plain counts), description, the services that record it, and
    each label's values."""

    name: str
    unit: str
    description: str
    services: Sequence[str]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def exposed(self) -> str:
        """As Prometheus shows it; of a histogram what comes before `_bucket`, `_sum` and `_count`."""
        return self.name + _SUFFIXES.get(self.unit, "")


class Counter(Metric):
    """Only grows."""

    __slots__ = ()

    @property
    def exposed(self) -> str:
        return super().exposed + "_total"

    def zeros(self, **known: Sequence[str]) -> Iterator[dict[str, str]]:
        """Labels of the series that begin at 0, so that the first increase is seen; not of many or `Named`.

        Of labels that are ``known`` only with these values.
        """
        labels = {**self.labels, **known}
        if any(isinstance(values, Named) for values in labels.values()):
            return
        series = [dict(zip(labels, values, strict=True)) for values in product(*labels.values())]
        yield from series if len(series) <= MAX_ZEROS else ()


class Gauge(Metric):
    """The value now."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Histogram(Metric):
    """A distribution over fixed upper bucket bounds, in the metric's unit."""

    buckets: Sequence[float] = ()


METRICS: dict[str, Metric] = {}
AnyMetric = TypeVar("AnyMetric", bound=Metric)


def _counter(services: str, name: str, unit: str, description: str, **labels: Sequence[str]) -> Counter:
    return _registered(Counter(f"adaserve_{name}", unit, description, services.split(), labels))


def _gauge(services: str, name: str, unit: str, description: str, **labels: Sequence[str]) -> Gauge:
    return _registered(Gauge(f"adaserve_{name}", unit, description, services.split(), labels))


def _histogram(
    services: str, name: str, unit: str, description: str, buckets: Sequence[float], **labels: Sequence[str]
) -> Histogram:
    return _registered(Histogram(f"adaserve_{name}", unit, description, services.split(), labels, buckets))


def _registered(metric: AnyMetric) -> AnyMetric:
    METRICS[metric.name] = metric
    return metric


TIERS = ("0", "1", "2", "3")
SERVICES = ("gateway", "drafter", "selector", "verifier")
ALL = " ".join(SERVICES)
INFO = _gauge(ALL, "info", "", "1; what runs here", service=SERVICES, version=Named(("unknown",)))
HINTS_DROPPED = _counter(
    ALL,
    "hints_dropped",
    "{message}",
    "Ring messages or rows that were not used",
    reason=("unreadable", "superseded", "late", "unknown_row", "invalid_row", "reader_gone"),
)
RING_MISSES = _counter(
    "verifier",
    "ring_misses",
    "{step}",
    "DraftRequests without a usable reply",
    reason=("deadline", "reader_gone", "no_drafter"),
)
RING_SECONDS = _histogram("verifier", "ring_time", "s", "DraftRequest sent until its trees arrived", STEP_SECONDS)
HOP_TIME = _histogram(
    ALL,
    "hop_time",
    "s",
    "Sent by one service until read by the next: the stream, and the reader being busy",
    HOP_SECONDS,
    hop=("draft", "select", "verify", "tokens"),
)
BREAKER_OPEN = _gauge(
    "verifier", "breaker_open", "", "1 while the verifier does not wait for trees", ring=("0", "1", "2", "3")
)
MODE_SPECULATIVE = _gauge(
    "verifier", "mode_speculative", "", "1 while the cell's requests are speculated on, 0 in full verification"
)
MODE_REASONS = (
    "operator",
    "no_drafter",
    "ring_deadline",
    "acceptance_collapse",
    "calibration_drift",
    "latency_prediction",
)
MODE_SWITCHES = _counter(
    "verifier",
    "mode_switches",
    "{switch}",
    "Changes between speculation and full verification, by the reason of the latter",
    reason=MODE_REASONS,
)
FULL_VERIFICATION = _gauge(
    "verifier",
    "full_verification",
    "",
    "1 for the reason for which this verifier decodes plainly, 0 for all others",
    reason=MODE_REASONS,
)
STEPS = _counter("verifier", "steps", "{step}", "Forward passes", kind=("speculative", "bare", "prefill"))
STEP_TIME = _histogram(
    "drafter selector verifier",
    "step_time",
    "s",
    "Time of one step by part",
    STEP_SECONDS,
    part=("forward", "commit", "draft", "select", "total"),
)
PREDICTION_ERROR = _histogram(
    "verifier", "prediction_error", "", "|predicted - measured| / measured time of a forward pass", RELATIVE_ERRORS
)
STEP_TOKENS = _histogram("verifier", "step_tokens", "{token}", "Tokens in one packed forward pass", TOKEN_COUNTS)
TOKENS_COMMITTED = _counter("verifier", "tokens_committed", "{token}", "Output tokens committed")
COMMITS = _counter(
    "verifier",
    "commits",
    "{row}",
    "Rows sent to the commit script by its answer",
    status=("OK", "SAME", "MISSING", "FENCED", "CANCELLED", "BEHIND", "ERROR"),
)
DRAFT_TOKENS_PROPOSED = _counter("drafter", "draft_tokens_proposed", "{token}", "Candidate nodes drafted")
DRAFT_AHEAD_ROWS = _counter(
    "drafter",
    "draft_ahead_rows",
    "{row}",
    "Rows that were drafted ahead, by whether their context became one of the outcomes",
    outcome=("hit", "miss"),
)
DRAFT_AHEAD_TIME = _counter(
    "drafter",
    "draft_ahead_time",
    "s",
    "Drafting ahead: time spent between messages, time saved in rounds, time that messages waited for a slice",
    part=("spent", "saved", "waited"),
)
DRAFT_AHEAD_ON = _gauge("drafter", "draft_ahead_on", "", "1 while outcomes are drafted from, else 0")
DRAFT_AHEAD_GAIN = _gauge(
    "drafter", "draft_ahead_gain", "", "Tokens per second with drafting ahead over those without, as last tried"
)
DRAFT_TOKENS_SELECTED = _counter(
    "selector",
    "draft_tokens_selected",
    "{token}",
    "Nodes sent to verification by phase",
    phase=("slo", "throughput"),
)
DRAFT_TREES = _counter("verifier", "draft_trees", "{tree}", "Trees verified, one for each request and step")
DRAFT_TOKENS_ACCEPTED = _counter(
    "verifier", "draft_tokens_accepted", "{token}", "Drafted nodes the target accepted"
)
TOKENS_WASTED = _counter(
    "verifier", "tokens_wasted", "{token}", "Drafted nodes that were verified and not accepted"
)
KINDS = ("raw", "calibrated")
DRAFT_LABELS = _counter(
    "verifier", "draft_labels", "{label}", "Drafted edges that the target accepted or rejected"
)
DEPTHS = tuple(str(depth) for depth in range(1, 9))
DRAFT_EDGES = _counter(
    "verifier",
    "draft_edges",
    "{edge}",
    "Drafted edges that the target has judged, by depth; deeper ones count as 8",
    depth=DEPTHS,
    outcome=("accepted", "rejected"),
)
CONFIDENT_EDGES = _counter(
    "verifier", "confident_edges", "{edge}", "Judged edges of a calibrated probability of 0.9 or more"
)
CONFIDENT_REJECTED = _counter("verifier", "confident_rejected", "{edge}", "Those of them that were rejected")
ACCEPTED_EXPECTED = _counter(
    "verifier",
    "accepted_expected",
    "{token}",
    "Accepted tokens that path probabilities promised, by kind",
    kind=KINDS,
)
ACCEPTED_REALISED = _counter("verifier", "accepted_realised", "{token}", "Accepted tokens of the same trees")
CALIBRATION_ERROR = _gauge(
    "verifier", "calibration_error", "", "Expected calibration error over the current labels, by kind", kind=KINDS
)
BRIER_SCORE = _gauge("verifier", "brier_score", "", "Brier score over the current labels, by kind", kind=KINDS)
BUDGET_USED = _histogram("selector", "budget_used", "{token}", "Roots and nodes of one selection", TOKEN_COUNTS)
QUEUE_WAIT = _histogram("verifier", "queue_wait", "s", "Queue entry to claim", WAIT_SECONDS, tier=TIERS)
REQUESTS = _gauge(
    "verifier", "requests", "{request}", "Requests by state", state=("running", "prefilling", "waiting")
)
REQUESTS_FINISHED = _counter(
    "verifier",
    "requests_finished",
    "{request}",
    "Terminal messages",
    reason=("stop", "length", "cancelled", "error", "expired"),
)
PREEMPTIONS = _counter("verifier", "preemptions", "{request}", "Requests whose KV was given up and recomputed")
PREFIX_TOKENS = _counter(
    "verifier",
    "prefix_tokens",
    "{token}",
    "Context tokens of admitted requests, by whether their KV was there",
    outcome=("hit", "miss"),
)
KV_BLOCKS = _gauge("drafter verifier", "kv_blocks", "{block}", "KV pool blocks", state=("used", "total"))
CANCEL_TIME = _histogram(
    "verifier", "cancel_time", "s", "Cancel sent by a gateway until the request's slots are free", STEP_SECONDS
)
DEAD_LETTERS = _counter(
    "verifier", "dead_letters", "{message}", "Work that cannot be done", reason=("invalid", "poison", "grammar")
)
BUS_ERRORS = _counter(
    ALL,
    "bus_errors",
    "{error}",
    "Failed Redis calls by class",
    kind=(
        "ConnectionError",
        "TimeoutError",
        "READONLY",
        "UNBLOCKED",
        "LOADING",
        "MASTERDOWN",
        "NOGROUP",
        "NOSCRIPT",
        "OOM",
        "MISCONF",
        "NOPERM",
    ),
)
HTTP_REQUESTS = _counter(
    "gateway",
    "http_requests",
    "{request}",
    "Answers by route and status",
    route=(
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/streams",
        "/tokenize",
        "/detokenize",
        "/admin",
        "/console",
        "/live",
        "/ready",
        "/metrics",
    ),
    status=(
        "200",
        "400",
        "401",
        "403",
        "404",
        "405",
        "409",
        "413",
        "415",
        "422",
        "429",
        "499",
        "500",
        "502",
        "503",
        "504",
    ),
)
API_KEYS = _gauge("gateway", "api_keys", "{key}", "API keys that the gateway knows, good or not")
API_KEYS_AGE = _gauge("gateway", "api_keys_age", "s", "Time since Redis has confirmed the API keys")
AUTH_FAILURES = _counter(
    "gateway",
    "auth_failures",
    "{request}",
    "Requests refused for their API key",
    reason=("missing", "malformed", "unknown", "expired", "revoked", "scope", "tenant"),
)
RATE_LIMITED = _counter(
    "gateway",
    "rate_limited",
    "{request}",
    "Requests refused by a tenant's limit",
    limit=("rpm", "tpm", "max_concurrent"),
)
LIMITS_LOCAL = _gauge(
    "gateway", "limits_local", "", "1 while the gateway counts tenants' limits alone, without Redis"
)
RESTORED = _counter(
    "gateway",
    "restored",
    "{request}",
    "Requests the gateway found forgotten by Redis and put back, by the answer of reseed",
    status=("OK", "UNNEEDED", "FENCED", "TERMINAL"),
)
ARMS = ("treatment", "control")
ROLLOUT_REQUESTS = _counter(
    "gateway", "rollout_requests", "{request}", "Requests of a rollout by arm and who serves them",
    arm=ARMS, by=("here", "upstream"),
)  # fmt: skip
ROLLOUT_FINISHED = _counter(
    "gateway",
    "rollout_finished",
    "{request}",
    "Finished requests of a rollout with a target",
    arm=ARMS,
    met=("true", "false"),
)
ROLLOUT_HALTS = _counter(
    "gateway", "rollout_halts", "{halt}", "Times that a rollout has halted, by itself or by order"
)
ROLLOUT_HALTED = _gauge("gateway", "rollout_halted", "", "1 while the rollout has halted")
ROLLOUT_STEP = _gauge("gateway", "rollout_step", "", "Step of the ramp, from 1; 0 treats nobody")
ROLLOUT_SHARE = _gauge("gateway", "rollout_share", "", "Share of the requests that are served with speculation")
UPSTREAM_ERRORS = _counter(
    "gateway", "upstream_errors", "{request}", "Forwarded requests that failed, by how",
    kind=("unreachable", "timeout", "failed", "refused"),
)  # fmt: skip
POLICY_RELOADS = _counter(
    "gateway", "policy_reloads", "{file}", "Policy files that were taken while the gateway ran"
)
POLICY_RELOAD_FAILURES = _counter(
    "gateway",
    "policy_reload_failures",
    "{file}",
    "Policy files that were refused; the policy before stays in force",
)
POLICY_REFUSED = _gauge(
    "gateway", "policy_refused", "", "1 while the policy file that lies there is a bad one, and not in force"
)
REDIS_UP = _gauge("gateway", "redis_up", "", "1 while Redis answers this gateway; its figures are those of then")
REDIS_MEMORY = _gauge(
    "gateway", "redis_memory", "By", "Memory of Redis; a max of 0 is no limit", kind=("used", "max")
)
STREAM_ENTRIES = _gauge(
    "gateway",
    "stream_entries",
    "{entry}",
    "Entries of the cell's streams",
    stream=(*(f"requests_{tier}" for tier in range(4)), "released", "dead", "select", "control"),
)
QUEUE_REQUESTS = _gauge(
    "gateway",
    "queue_requests",
    "{request}",
    "Requests that wait for a verifier, those that one gave back among them",
    tier=TIERS,
)
QUEUE_OLDEST = _gauge(
    "gateway",
    "queue_oldest",
    "s",
    "How long the oldest of them has waited, since it came or since its last token; 0 where nobody waits",
    tier=TIERS,
)
OPEN_STREAMS = _gauge("gateway", "open_streams", "{stream}", "Requests the gateway is delivering")
SLO_CLASSES = Named(("best_effort", "custom"))  # and the policy's
TTFT = _histogram(
    "gateway", "ttft", "s", "Arrival to first token, as the client sees it", WAIT_SECONDS, slo_class=SLO_CLASSES
)
TPOT = _histogram(
    "gateway",
    "tpot",
    "s",
    "(last token - first token) / (tokens - 1) of a request",
    TPOT_SECONDS,
    slo_class=SLO_CLASSES,
)
SLO_REQUESTS = _counter(
    "gateway",
    "slo_requests",
    "{request}",
    "Finished requests with a target, those that failed among them",
    slo_class=SLO_CLASSES,
    met=("true", "false"),
)
SLO_MISSED = _counter(
    "gateway",
    "slo_missed",
    "{request}",
    "Requests with a target that was not attained, by the target, or failure, that it was missed by",
    slo_class=SLO_CLASSES,
    reason=("tpot", "ttft", "both", "failed"),
)
TRACES_LEFT_OUT = _counter(
    "gateway",
    "traces_left_out",
    "{request}",
    "Requests that missed or failed and were neither sampled nor told after the fact: too many in a second",
)
SLO_OBJECTIVE = _gauge(
    "gateway",
    "slo_objective",
    "",
    "Share of a class's requests that shall attain, by the policy; 0 for a class that has none any more",
    slo_class=SLO_CLASSES,
)
GOODPUT_TOKENS = _counter(
    "gateway",
    "goodput_tokens",
    "{token}",
    "Output tokens of requests that attained their SLO",
    slo_class=SLO_CLASSES,
)
