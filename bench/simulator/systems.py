"""Every system by name: how it is scheduled, on which engine, within which bounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from bench.simulator.baselines import (
    AdaptiveChain,
    Chain,
    FairShare,
    Ordered,
    PrefillFirst,
    Sarathi,
    Speculative,
    System,
    TopTree,
    TreeRule,
    mlfq_level,
)
from bench.simulator.cohorts import TwoRings
from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import DraftHost, Engine, Hardware, latency_model
from bench.simulator.ring import Ring, Teaching
from services.selector.control import PolicySettings
from services.selector.settings import SelectorSettings
from shared.errors import ConfigurationError
from shared.latency import LatencyModel

VLLM_CAP = 512  # requests that vLLM admits by default
VLLM_BATCH = 4096  # prompt tokens of one pass
CHUNK_BATCH = 512  # tokens of one pass with chunked prefill
RING_CHUNK = 1024  # the artifact's prefill chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """A named configuration. ``cap`` bounds the running requests; None: AdaServe's cap of the hardware."""

    name: str
    build: Callable[[Hardware, SimDrafter], System]
    engine: Callable[[Hardware], Engine]
    cap: int | None = VLLM_CAP
    prefill_chunk: int = VLLM_BATCH

    def max_running(self, hardware: Hardware) -> int:
        """Requests that hold KV at once."""
        return hardware.max_running if self.cap is None else self.cap


def chunked(name: str, build: Callable[[Hardware], System], cap: int | None = VLLM_CAP) -> SystemSpec:
    """A system with chunked prefill and without speculation."""
    return SystemSpec(name=name, build=lambda h, _: build(h), engine=lambda h: h.sarathi, cap=cap)


def drafted(name: str, rule: Callable[[Hardware], TreeRule]) -> SystemSpec:
    """vLLM with a draft model and this rule for trees."""

    def build(hardware: Hardware, drafter: SimDrafter) -> System:
        return Speculative(VLLM_BATCH, drafter, rule(hardware), hardware.vllm_draft)

    return SystemSpec(name=name, build=build, engine=lambda h: h.vllm)


def modern(name: str, rule: Callable[[Hardware], TreeRule]) -> SystemSpec:
    """The rule with all that ours has but the ring: engine, draft step, host time, cap, chunked prefill."""

    def build(hardware: Hardware, drafter: SimDrafter) -> System:
        host = DraftHost(level_ms=hardware.draft_step_ms, iteration_ms=hardware.hop_ms, token_ms=0.0)
        return Speculative(RING_CHUNK, drafter, rule(hardware), host, mixes_prompts=True)

    return SystemSpec(name=name, build=build, engine=lambda h: h.adaserve, cap=None, prefill_chunk=RING_CHUNK)


def adaptive_chain(depth: int) -> Callable[[Hardware], TreeRule]:
    """Chains of at most so many tokens, into the budget that our engine's profile gives."""
    return lambda hardware: AdaptiveChain.profiled(depth, latency_model(hardware.adaserve))


def ring(
    name: str,
    *,
    calibration: bool,
    model_error: float = 0.0,
    hop_ms: float | None = None,
    two_rings: bool = False,
    always_two: bool = False,
    **changes: Any,
) -> SystemSpec:
    """The real policy. The paper's has the artifact's constants; ours starts from its defaults.

    Its latency model is the engine's own, or wrong by a share ``model_error``; ``hop_ms`` replaces the machine's.
    ``two_rings`` are used where drafting is long enough, with ``always_two`` always.
    """

    def build(hardware: Hardware, drafter: SimDrafter) -> System:
        low, high = hardware.depths
        constants: dict[str, Any] = {"draft_tokens_per_step": hardware.draft_tokens_per_step, "max_width": 3}
        if changes.get("policy") == "paper" or not changes.get("cost_aware_budget", True):
            constants["budget"] = hardware.budget
        if changes.get("policy") == "paper" or not changes.get("cost_aware_depth", True):
            constants |= {"min_depth": low, "max_depth": high, "budget": hardware.budget}
        system = partial(TwoRings, is_auto=not always_two) if two_rings or always_two else Ring
        return system(
            drafter,
            PolicySettings(**{**constants, **changes}),
            mistaken(latency_model(hardware.adaserve), model_error),
            Teaching() if calibration else None,
            depth=low,
            width=3,
            hop_ms=hardware.hop_ms if hop_ms is None else hop_ms,
        )

    return SystemSpec(name=name, build=build, engine=lambda h: h.adaserve, cap=None, prefill_chunk=RING_CHUNK)


def mistaken(model: LatencyModel, error: float) -> LatencyModel:
    """The model with its curve too high by that share."""
    scale = 1.0 + error
    return model.corrected(scale=scale, offset_ms=0.0, context_ms=model.context_ms, row_ms=model.row_ms)


RINGS: Mapping[str, Mapping[str, Any]] = {
    "adaserve-paper": {"policy": "paper", "calibration": False},
    "adaserve": {"calibration": True},
}
_SETTINGS = (
    "calibration",
    "model_error",
    "hop_ms",
    "two_rings",
    "always_two",
    *(field.name for field in fields(PolicySettings)),
)
_BOUNDS: Mapping[str, TypeAdapter[Any]] = {
    "model_error": TypeAdapter(Annotated[float, Field(gt=-0.9, le=10.0)]),
    "hop_ms": TypeAdapter(Annotated[float, Field(ge=0.0, le=1000.0)]),
    "two_rings": TypeAdapter(bool),
    "always_two": TypeAdapter(bool),
    **{
        name: TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]
        for name, info in SelectorSettings.model_fields.items()
        if name in _SETTINGS
    },
}
SYSTEMS: Mapping[str, SystemSpec] = {
    spec.name: spec
    for spec in (
        SystemSpec(name="vllm", build=lambda _h, _d: PrefillFirst(VLLM_BATCH), engine=lambda h: h.vllm),
        chunked("sarathi", lambda _: Sarathi(CHUNK_BATCH)),
        chunked("sarathi-capped", lambda _: Sarathi(CHUNK_BATCH), cap=None),  # with AdaServe's cap of requests
        drafted("vllm-spec-4", lambda _: Chain(4)),
        drafted("vllm-spec-6", lambda _: Chain(6)),
        drafted("vllm-spec-8", lambda _: Chain(8)),
        modern("vllm-adaptive", adaptive_chain(4)),
        modern("vllm-adaptive-2", adaptive_chain(2)),
        modern("eagle2", lambda _: TopTree(depth=6, width=3, size=8)),
        modern("eagle2-3", lambda _: TopTree(depth=3, width=3, size=3)),
        chunked("priority", lambda h: Ordered(CHUNK_BATCH, h.max_running // 2, lambda r: r.target_ms)),
        chunked("fastserve", lambda h: Ordered(CHUNK_BATCH, h.max_running // 2, mlfq_level)),
        chunked("vtc", lambda h: FairShare(CHUNK_BATCH, h.max_running // 2)),
        *(ring(name, **changes) for name, changes in RINGS.items()),
    )
}


def system_named(text: str) -> SystemSpec:
    """A system, for ours with changed settings: `adaserve-paper:budget=256`, `adaserve:slo_aware=false`.

    Raises ConfigurationError for a name that is not in SYSTEMS or a setting the policy does not have.
    """
    name, _, changes = text.partition(":")
    if name not in SYSTEMS:
        raise ConfigurationError(f"system {name!r} is not known; there are {', '.join(SYSTEMS)}")
    if not changes:
        return SYSTEMS[name]
    if name not in RINGS:
        raise ConfigurationError(f"system {name!r} has no settings; {' and '.join(RINGS)} have")
    given: dict[str, Any] = {}
    for change in changes.split(","):
        setting, value = _setting(change)
        if setting in given:
            raise ConfigurationError(f"system {text!r}: {setting} is given twice")
        given[setting] = value
    settings = {**RINGS[name], **given}
    if "budget" in given and settings.get("policy") != "paper" and settings.get("cost_aware_budget", True):
        raise ConfigurationError(f"system {text!r}: budget counts with cost_aware_budget=false only")
    return ring(text, **settings)


def _setting(change: str) -> tuple[str, Any]:
    """Name and value, within the bounds that the selector's own settings have."""
    name, _, value = change.partition("=")
    if name not in _SETTINGS:
        raise ConfigurationError(f"setting {name!r} is not known; there are {', '.join(_SETTINGS)}")
    try:
        parsed = json.loads(value)
    except ValueError:
        raise ConfigurationError(f"setting {name}: {value!r} must be a number, true or false") from None
    try:
        return name, _BOUNDS[name].validate_python(parsed, strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"setting {name}={value}: {error.errors()[0]['msg']}") from None
