"""Why a request met or missed its targets, in plain words, most important first. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from services.gateway.causes import (
    MIN_SPEC_STEPS,
    MOST,
    Miss,
    Part,
    alone_step_ms,
    is_mostly_withheld,
    needs_speculation,
    tpot,
    ttft,
    withheld_steps,
)
from services.gateway.history import History

LEAST_SHARE = 0.03  # of a miss; smaller ones are told together
NOTABLE_ERROR = 0.15
NOTABLE_LATE = 0.2
FIRST_COMMIT = "; the commit of its first token is in it"

WHY_BARE = {
    "operator": "an operator's order",
    "no_drafter": "there was no drafter",
    "ring_deadline": "the breaker was open: drafter or selector had missed the deadline",
    "no_reply": "no trees came in time",
    "acceptance_collapse": "the watch had stopped speculation: hardly anything was accepted",
    "calibration_drift": "the watch had stopped speculation: the draft's probabilities no longer held",
    "latency_prediction": "the watch had stopped speculation: predicted and real step times differed",
    "watch": "the watch had stopped speculation",
    "not_wanted": "the client asked for none",
    "resting": "drafting did not pay at this load",
    "not_selected": "the selector gave it no node of the budget",
    "drafter_behind": "the drafter had no room for it, or was still reading its context",
    "first_step": "the first step never has a tree",
}


def explained(history: History) -> list[str]:
    """Sentences."""
    told = [*_end(history)]
    for name, miss, describe in (("TTFT", ttft(history), _ttft_part), ("TPOT", tpot(history), _tpot_part)):
        target_ms = history.ttft_target_ms if name == "TTFT" else history.tpot_target_ms
        if miss is None:
            told += [_untold(name, history)] if math.isfinite(target_ms) else []
        else:
            told += _target(name, miss, history, describe)
    return told + _speculation(history) + _caveats(history)


def _untold(name: str, history: History) -> str:
    if name == "TTFT" and history.is_beginning_lost:
        return "Its TTFT is not known: Redis had forgotten when it came."
    return f"It has no {name}: too few tokens were committed."


def _end(history: History) -> list[str]:
    who = f"{_count(history.output_tokens, 'token')}, class {history.slo_class or 'unknown'}"
    targets = "targets" if history.has_both_targets else "target"
    if not history.has_ended:
        state = "waits in its queue" if history.status == "queued" else "is being served"
        return [f"The request {state}; so far: {who}."]
    ended = {
        "cancelled": f"Its client left, so it has neither met nor missed its {targets}",
        "expired": f"Its client's deadline was over before it could begin, so it has missed its {targets}",
        "error": f"It failed and went to the dead letters, so it has missed its {targets}",
    }
    if history.finish in ended:
        return [f"{ended[history.finish]}: {who}."]
    none = f"Whether it met its {targets} is not known" if history.has_target else "It had no target to meet"
    verdicts = {"met": f"It met its {targets}", "missed": f"It missed its {targets}", "none": none}
    return [f"{verdicts[history.verdict]}: {who}."]


def _target(name: str, miss: Miss, history: History, describe: Callable[[Part, History], str]) -> list[str]:
    unit = " a token" if name == "TPOT" else ""
    if math.isinf(miss.target_ms):
        return [f"{name} was {_ms(miss.actual_ms)}; it had no target.", *_longest(miss, history, describe)]
    if not miss.is_missed:
        return [
            f"{name} was {_ms(miss.actual_ms)} against a target of {_ms(miss.target_ms)}: "
            f"{_ms(-miss.excess_ms)}{unit} to spare."
        ]
    told = [
        f"{name} was {_ms(miss.actual_ms)} against a target of {_ms(miss.target_ms)}: "
        f"{_ms(miss.excess_ms)}{unit} too many."
    ]
    notable = [part for part in miss.parts if part.share_ms >= LEAST_SHARE * miss.excess_ms]
    named = [part for part in notable if part.name != "unexplained"]
    told += _without_speculation([part.name for part in named], history) if name == "TPOT" else []
    told += [f"Of these, {_ms(part.share_ms)}: {describe(part, history)}." for part in named]
    rest_ms = miss.excess_ms - sum(part.share_ms for part in named)
    if rest_ms > LEAST_SHARE * miss.excess_ms:
        told.append(f"The rest, {_ms(rest_ms)}, is not explained{FIRST_COMMIT if name == 'TTFT' else ''}.")
    helps = _helps(name, [part.name for part in named], history)
    return told + ([f"What helps: {'; then '.join(helps)}."] if helps else [])


def _without_speculation(named: list[str], history: History) -> list[str]:
    """What no share of the time tells: a target that needs speculation, and what kept that from the request."""
    told, num_steps = [], history.stat("num_steps")
    if needs_speculation(history) and history.stat("num_spec_steps") < MOST * num_steps:
        alone_ms = _ms(alone_step_ms(history))
        told.append(f"Even alone a pass takes {alone_ms} here: this target cannot be had without speculation.")
    if is_mostly_withheld(history) and "unspeculated" not in named:
        withheld = withheld_steps(history)
        steps = f"{sum(withheld.values())} of its {num_steps:.0f} steps"
        told.append(f"Speculation was withheld from {steps}: {_why(withheld)}.")
    return told


def _helps(target: str, named: list[str], history: History) -> list[str]:
    """First what ends the lack of speculation, where that decides; then what helps the first of the causes."""
    others = [HELP[name] for name in named if name != "unspeculated"][:1]
    if target == "TTFT":
        return others
    needs, is_withheld = needs_speculation(history), is_mostly_withheld(history)
    if named[:1] == ["unspeculated"] or (needs and is_withheld):
        return [_lift(withheld_steps(history), history)]
    if not history.stat("num_spec_steps") and (needs or named[:1] == ["machine"]):
        return [_lift(history.bare_reasons, history)]
    is_unmeasured = is_withheld and history.stat("num_spec_steps") < MIN_SPEC_STEPS
    return [_lift(withheld_steps(history), history), *others] if is_unmeasured else others


def _lift(reasons: Mapping[str, int], history: History) -> str:
    """What ends the most frequent of the reasons that can be ended."""
    known = [why for why in sorted(reasons, key=lambda why: -reasons[why]) if why in LIFTS]
    lift = LIFTS[known[0]] if known else "speculation; `adaserve mode` says what objects to it"
    return lift.format(slo_class=history.slo_class or "NAME", tenant=history.tenant or "NAME")


def _longest(miss: Miss, history: History, describe: Callable[[Part, History], str]) -> list[str]:
    parts = sorted(miss.parts, key=lambda part: -part.ms)[:1]
    return [f"Most of it: {describe(part, history)}." for part in parts if part.name != "unexplained"]


def _tpot_part(part: Part, history: History) -> str:
    stat, num_steps = history.stat, max(1.0, history.stat("num_steps") - 1)
    rows, tokens = stat("batch_rows") / num_steps, stat("batch_tokens") / num_steps
    of_prompts = _of_prompts(stat("batch_prompt_tokens") / num_steps)
    return {
        "machine": _machine(history, num_steps),
        "batch": f"passes were for {rows:.1f} requests and {tokens:.0f} tokens on average{of_prompts}, which took "
        f"{_per_step(history, part, num_steps)} longer than one token alone",
        "ring": f"waiting for the drafter's trees, {_per_step(history, part, num_steps)}",
        "prefills": f"passes that only fed other prompts, {_per_step(history, part, num_steps)}",
        "commit": f"commits to Redis, {_per_step(history, part, num_steps)}",
        "preempted": f"its KV was given up {_times(stat('num_preemptions'))} for want of memory, and "
        "computed again",
        "moved": f"it changed verifiers {_times(history.takeovers)}, and lay {_ms(history.idle_ms)} without one",
        "bookkeeping": f"the verifier's own work between passes, {_per_step(history, part, num_steps)}",
        "unspeculated": f"{sum(withheld_steps(history).values())} of {stat('num_steps'):.0f} steps were without "
        f"speculation: {_why(withheld_steps(history))}",
        "unexplained": "not explained",
    }[part.name]


def _machine(history: History, num_steps: float) -> str:
    alone_ms = alone_step_ms(history)
    gained = (history.output_tokens - 1) / num_steps
    why = _why_so_few(history.stat("num_spec_steps") / num_steps)
    return f"even alone a pass takes {_ms(alone_ms)} here, and a pass brought {gained:.2f} tokens: {why}"


def _why_so_few(speculative: float) -> str:
    if speculative == 0:
        return "nothing was speculated"
    return "too few of the draft's were accepted" if speculative >= 0.5 else "most had no tree to verify"


def _of_prompts(tokens: float) -> str:
    return f", {tokens:.0f} of them of prompts" if tokens >= 0.5 else ""


def _per_step(history: History, part: Part, num_steps: float) -> str:
    return f"{_ms(part.ms * (history.output_tokens - 1) / num_steps)} a step"


def _ttft_part(part: Part, history: History) -> str:
    stat = history.stat
    return {
        "gateway": "checks, tokenizing and queueing at the gateway",
        "queue": "waiting in the queue for a verifier with a free place",
        "moved": f"it changed verifiers {_times(history.takeovers)} before its first token",
        "schema": "compiling its JSON Schema",
        "room": "waiting at the verifier for room for its KV",
        "turns": "waiting between the passes of its own prompt: other prompts, and steps of running requests",
        "prompt": f"its own prompt of {history.prompt_tokens} tokens, {stat('num_cached_tokens'):.0f} of them "
        f"cached, fed {_times(stat('num_prefill_steps'))}",
        "unexplained": "not explained",
    }[part.name]


HELP = {
    "machine": "a larger target, a draft that is accepted more, or a faster machine",
    "batch": "fewer requests at a time on this verifier, one more verifier, or a smaller prefill chunk",
    "ring": "a faster or nearer drafter and selector, or a lower depth (docs/protocol.md, the ring)",
    "prefills": "a smaller prefill chunk, or one more verifier",
    "commit": "a nearer or less busy Redis",
    "preempted": "more KV memory, or fewer requests at a time",
    "moved": "finding out why verifiers went: see their logs and the supervisor's",
    "bookkeeping": "more CPU for the verifier: its threads may be over-subscribed",
    "gateway": "more CPU for the gateway",
    "queue": "one more verifier, a higher tier for this class, or admission that refuses sooner",
    "schema": "a simpler schema, or one that has been used before",
    "room": "more KV memory, or shorter contexts",
    "turns": "a smaller load, or a larger prefill chunk",
    "prompt": "a shorter prompt, or a beginning that is shared with earlier ones",
}

_WATCH = "a draft model that fits this target: trials go on by themselves (`adaserve mode`)"

LIFTS = {
    "operator": "withdrawing the order, `adaserve mode auto --class {slo_class}`, or without a class or with "
    "`--tenant {tenant}` where the order is for those (`adaserve mode` lists them)",
    "no_drafter": "a running drafter with this target's token ids (`adaserve doctor`, the drafter's log)",
    "ring_deadline": "a drafter and a selector that answer in time (`adaserve doctor`, their logs)",
    "no_reply": "a drafter and a selector that answer in time (`adaserve doctor`, their logs)",
    "acceptance_collapse": _WATCH,
    "calibration_drift": _WATCH,
    "latency_prediction": "nothing by hand: step times are learnt anew, and trials go on (`adaserve mode`)",
    "watch": _WATCH,
    "not_wanted": "a client that lets it be speculated on: no `adaserve.speculation.enabled: false`",
    "resting": "a larger target, a smaller load, or a cheaper draft model",
    "not_selected": "a larger target, a smaller load, or one more verifier",
    "drafter_behind": "a faster drafter, or one more",
}
"""Of why a step was bare, what ends it; of the rest nobody can end anything."""


def _speculation(history: History) -> list[str]:
    num_steps, num_spec = history.stat("num_steps"), history.stat("num_spec_steps")
    if not num_steps:
        return []
    if not num_spec:
        steps = "Its only step was not" if num_steps == 1 else f"None of its {num_steps:.0f} steps was"
        return [f"{steps} speculative: {_why(history.bare_reasons)}."]
    drafted, accepted = history.stat("num_draft_tokens"), history.stat("num_accepted_draft_tokens")
    told = [
        f"{num_spec:.0f} of its {num_steps:.0f} steps verified trees of {drafted / num_spec:.1f} tokens, of which "
        f"{accepted / num_spec:.2f} were accepted on average."
    ]
    others = {why: count for why, count in history.bare_reasons.items() if why != "first_step"}
    if others:
        told.append(f"Of the other steps, {sum(others.values())} could have had one: {_why(others)}.")
    late = history.stat("num_late_steps") / num_steps
    if late >= NOTABLE_LATE:
        told.append(f"In {late:.0%} of its steps the budget could not hold what its target needed.")
    return told


def _why(reasons: Mapping[str, int]) -> str:
    ranked = sorted(reasons.items(), key=lambda item: -item[1])
    return "; ".join(f"{WHY_BARE.get(why, why)} ({count})" for why, count in ranked) or "nobody has told why"


def _caveats(history: History) -> list[str]:
    told = []
    predicted_ms, real_ms = history.stat("predicted_ms"), history.stat("forward_ms")
    error = real_ms / predicted_ms - 1 if predicted_ms > 0 else 0.0
    if abs(error) > NOTABLE_ERROR:
        word, size = ("longer", "large") if error > 0 else ("less", "small")
        told.append(f"Passes took {abs(error):.0%} {word} than predicted, so budgets were too {size}.")
    if history.takeovers:
        told.append("It changed verifiers: what the earlier ones did in their last steps may be missing here.")
    elif history.is_partial and history.claimed_ms is not None:
        told.append("The verifier's figures may be up to 16 steps old.")
    return told


def _count(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}" if number == 1 else f"{number:.0f} {noun}s"


def _times(count: float) -> str:
    return {1: "once", 2: "twice"}.get(int(count), f"{count:.0f} times")


def _ms(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1_000:.1f} s"
    return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.1f} ms"
