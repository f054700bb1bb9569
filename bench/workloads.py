"""Workloads made from a seed, after the evaluation of the AdaServe paper, so that nothing need be downloaded.

Fitted to the paper's published traces (900 to 1700 requests in six minutes):

- arrivals: as many as rate × seconds; each at a time of density ∝ 1 − exp(−t/τ), τ = an eighth of the whole (45 s
  of six minutes): Poisson arrivals whose rate rises at first and then stays;
- prompt lengths: log-normal per category, cut to the range seen;
- output lengths: 256, a cap, with probability 0.55, otherwise triangular from 50 to 256 with its top at 135; the
  mean is 207. (The published files give 256 for all.)

`load_trace` takes the path of a trace file or the name of a preset with parameters, such as `paper:rps=2.6` or
`urgent:share=0.3,seconds=60`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.trace_files import read_trace
from bench.traces import Trace, TraceRequest, sorted_trace
from shared.errors import TraceError
from shared.policy import MAX_MS

OUTPUT_CAP = 256
CAPPED_SHARE = 0.55
SHORT_OUTPUTS = (50, OUTPUT_CAP, 135)  # lowest, highest, most likely
MAX_GENERATED = 1_000_000  # requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """What requests of one kind look like. Prompt lengths: median and range in tokens, σ of their logarithm."""

    name: str
    median: float
    sigma: float
    shortest: int
    longest: int
    tpot_ratio: float | None = None
    tpot_ms: float | None = None

    def request(self, arrival_ms: float, lengths: float, chance: random.Random) -> TraceRequest:
        """One that arrives then, its lengths drawn and multiplied by `lengths`."""
        prompt = min(max(chance.lognormvariate(math.log(self.median), self.sigma), self.shortest), self.longest)
        return TraceRequest(
            arrival_ms=round(arrival_ms, 3),
            category=self.name,
            prompt_tokens=max(1, round(lengths * prompt)),
            output_tokens=max(1, round(lengths * output_length(chance))),
            tpot_ratio=self.tpot_ratio,
            tpot_ms=self.tpot_ms,
        )


CODING = Category(name="coding", median=118, sigma=0.46, shortest=39, longest=392, tpot_ratio=1.2)
CHATBOT = Category(name="chatbot", median=15, sigma=0.47, shortest=5, longest=90, tpot_ms=50.0)
SUMMARIZATION = Category(name="summarization", median=703, sigma=0.5, shortest=98, longest=1866, tpot_ms=150.0)
BATCH = Category(name="batch", median=703, sigma=0.5, shortest=98, longest=1866)

# The paper's fixed targets as multiples of what its two models need for a token without load (about 31 ms).
RELATIVE_CHATBOT = replace(CHATBOT, tpot_ratio=1.6, tpot_ms=None)
RELATIVE_SUMMARIZATION = replace(SUMMARIZATION, tpot_ratio=4.8, tpot_ms=None)

Mix = Sequence[tuple[float, Category]]
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A preset's number: its default and what it may be."""

    default: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Preset:
    """`parameters` besides the common ones; `build` makes the requests from a value for each."""

    build: Callable[[Values, random.Random], list[TraceRequest]]
    parameters: Mapping[str, Parameter]


def output_length(chance: random.Random) -> int:
    """Tokens until the end of a reply, or the cap."""
    if chance.random() < CAPPED_SHARE:
        return OUTPUT_CAP
    return round(chance.triangular(*SHORT_OUTPUTS))


def with_drawn_outputs(trace: Trace, seed: int) -> Trace:
    """The trace with output lengths as they really were, in place of the cap that the published files give."""
    chance = random.Random(seed)
    return replace(
        trace,
        requests=tuple(replace(request, output_tokens=output_length(chance)) for request in trace.requests),
    )


def ramping_arrival_s(seconds: float, chance: random.Random) -> float:
    """A time within `seconds`, of density ∝ 1 − exp(−8t / seconds)."""
    while True:
        time_s = chance.uniform(0.0, seconds)
        if chance.random() < -math.expm1(-8.0 * time_s / seconds):
            return time_s


def peak_arrival_s(middle: float, seconds: float, chance: random.Random) -> float:
    """A time within `seconds`, Gaussian around `middle` with σ = a ninth of the whole."""
    while True:
        time_s = chance.gauss(middle, seconds / 9.0)
        if 0.0 <= time_s <= seconds:
            return time_s


def _mixed(mix: Mix, values: Values, chance: random.Random) -> list[TraceRequest]:
    shares, categories = zip(*mix, strict=True)
    count = max(1, round(values["rps"] * values["seconds"]))
    return [
        category.request(1_000 * ramping_arrival_s(values["seconds"], chance), values["lengths"], chance)
        for category in chance.choices(categories, shares, k=count)
    ]


def _paper(values: Values, chance: random.Random) -> list[TraceRequest]:
    return _mixed([(0.6, CODING), (0.2, CHATBOT), (0.2, SUMMARIZATION)], values, chance)


def _urgent(values: Values, chance: random.Random) -> list[TraceRequest]:
    rest = (1.0 - values["share"]) / 2
    return _mixed([(values["share"], CODING), (rest, CHATBOT), (rest, SUMMARIZATION)], values, chance)


def _scale(values: Values, chance: random.Random) -> list[TraceRequest]:
    coding = replace(CODING, tpot_ratio=values["scale"])
    return _mixed([(0.6, coding), (0.2, CHATBOT), (0.2, SUMMARIZATION)], values, chance)


def _strict(values: Values, chance: random.Random) -> list[TraceRequest]:
    return _mixed([(0.8, CODING), (0.2, RELATIVE_CHATBOT)], values, chance)


def _relaxed(values: Values, chance: random.Random) -> list[TraceRequest]:
    return _mixed([(0.1, CODING), (0.3, CHATBOT), (0.3, SUMMARIZATION), (0.3, BATCH)], values, chance)


def _relative(values: Values, chance: random.Random) -> list[TraceRequest]:
    coding = replace(CODING, tpot_ratio=values["coding"])
    chatbot = replace(RELATIVE_CHATBOT, tpot_ratio=values["chatbot"])
    summarization = replace(RELATIVE_SUMMARIZATION, tpot_ratio=values["summarization"])
    return _mixed([(0.6, coding), (0.2, chatbot), (0.2, summarization)], values, chance)


def _fluctuating(values: Values, chance: random.Random) -> list[TraceRequest]:
    seconds = values["seconds"]
    sigma_s = seconds / 9.0
    count = max(1, round(values["rps"] * sigma_s * math.sqrt(2 * math.pi)))  # the area under a peak
    return [
        category.request(1_000 * peak_arrival_s(seconds * quarter / 4, seconds, chance), values["lengths"], chance)
        for quarter, category in ((1, CHATBOT), (2, CODING), (3, SUMMARIZATION))
        for _ in range(count)
    ]


_COMMON = {
    "rps": Parameter(4.0, 0.01, 10_000.0),
    "seconds": Parameter(360.0, 1.0, 86_400.0),
    "lengths": Parameter(1.0, 0.01, 100.0),
    "ttft": Parameter(0.0, 0.0, MAX_MS),  # ms until the first token, for all requests; 0: no target
}
PRESETS: Mapping[str, Preset] = {
    "paper": Preset(_paper, _COMMON),
    "urgent": Preset(_urgent, {**_COMMON, "share": Parameter(0.5, 0.0, 1.0)}),
    "scale": Preset(_scale, {**_COMMON, "scale": Parameter(1.0, 0.1, 100.0)}),
    "fluctuating": Preset(_fluctuating, _COMMON),
    "strict": Preset(_strict, _COMMON),
    "relaxed": Preset(_relaxed, _COMMON),
    "relative": Preset(
        _relative,
        {
            **_COMMON,
            "coding": Parameter(1.2, 0.1, 1000.0),
            "chatbot": Parameter(1.6, 0.1, 1000.0),
            "summarization": Parameter(4.8, 0.1, 1000.0),
        },
    ),
}


def load_trace(text: str, seed: int = 0) -> Trace:
    """A preset's trace (`name` or `name:parameter=value,…`), otherwise the trace in the file `text`.

    The name of a preset wins over a file of that name; write `./paper` for the latter. A file needs no seed.
    Raises TraceError naming what exists and the limits.
    """
    name, _, rest = text.partition(":")
    if name in PRESETS:
        return generate(text, PRESETS[name], _values(text, PRESETS[name], rest), seed)
    if not Path(text).exists():
        raise TraceError(f"trace {text!r}: no such file, and no preset; presets are {', '.join(PRESETS)}")
    return read_trace(text)


def generate(name: str, preset: Preset, values: Values, seed: int) -> Trace:
    """The preset's requests for these values, a value for each parameter. The same seed, the same trace.

    Prompt ids number the requests in order of arrival: what text they stand for is the replay's choice.
    """
    if values["rps"] * values["seconds"] > MAX_GENERATED:
        raise TraceError(f"trace {name!r}: rps × seconds must be at most {MAX_GENERATED}")
    trace = sorted_trace(name, preset.build(values, random.Random(seed)))
    numbered = (
        replace(request, prompt_id=f"{request.category}-{index}", ttft_ms=values["ttft"] or None)
        for index, request in enumerate(trace.requests)
    )
    return replace(trace, requests=tuple(numbered))


def _values(text: str, preset: Preset, rest: str) -> dict[str, float]:
    values = {name: parameter.default for name, parameter in preset.parameters.items()}
    given: set[str] = set()
    for assignment in filter(None, rest.split(",")):
        name, _, value = (part.strip() for part in assignment.partition("="))
        if name not in preset.parameters or name in given:
            raise TraceError(f"trace {text!r}: {_about(preset, name, given)}")
        values[name] = _value(text, name, value, preset.parameters[name])
        given.add(name)
    return values


def _about(preset: Preset, name: str, given: set[str]) -> str:
    if name in given:
        return f"{name} is given twice"
    limits = (f"{name} ({one.low:g} to {one.high:g})" for name, one in preset.parameters.items())
    return f"no parameter {name!r}; there are {', '.join(limits)}"


def _value(text: str, name: str, value: str, parameter: Parameter) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not parameter.low <= number <= parameter.high:
        raise TraceError(
            f"trace {text!r}: {name}={value!r} must be a number from {parameter.low:g} to {parameter.high:g}"
        )
    return number
