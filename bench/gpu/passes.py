"""Forward passes of the random model: a decode step, and the same over more tokens, up to the knee."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.gpu.run import NUM_REQUESTS, Run
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.timing import median, percentile, scaled
from shared.inference.plan import ForwardPlan
from shared.inference.profile import chain_plans

SHARE = Target(limit=60.0, at_least=True)
KNEE = 1.25  # times one token's time: as far as this tokens are nearly free
WEIGHTS = "weights at copy bandwidth"
ROOFLINE = "weights at copy bandwidth, or their products"


def memory(run: Run) -> Section:
    """What the other sections' floors are made of."""
    return Section(
        name="memory",
        placement=run.placement,
        figures=[
            Figure(name="bytes moved by a copy", unit="GB/s", value=run.floors.read_gb_s),
            Figure(name="bfloat16 products", unit="TFLOP/s", value=run.floors.gflop_s / 1e3),
        ],
        notes=[f"a copy of {run.size.copied_bytes >> 20} MiB, each byte read and written"],
    )


def decode(run: Run) -> Section:
    """One token for each of 1 and of NUM_REQUESTS requests, logits on the host."""
    floor = Floor(name=WEIGHTS, value=run.floors.read_ms(run.model.weight_bytes))
    figures = []
    for rows in (1, NUM_REQUESTS):
        times = run.timed({"step": partial(run.model.runner.logits, _plan(run, rows, rows))})["step"]
        spent, name = scaled(times, 1e3), f"{rows} request(s)"
        figures += [
            Figure(name=name, unit="ms", value=median(spent), p99=percentile(spent, 99), floor=floor),
            Figure(
                name=f"{name}: weights read / copy bandwidth",
                unit="%",
                value=100 * floor.value / median(spent),
                target=SHARE if rows == 1 else None,
            ),
        ]
    recorded = f"{run.model.runner.num_recorded} shapes of passes recorded in {run.model.recorded_s:.1f} s"
    return Section(name="decode", placement=run.placement, figures=figures, notes=[_described(run), recorded])


def verify(run: Run) -> Section:
    """Passes over more and more tokens of NUM_REQUESTS requests, all with logits."""
    model, medians, figures = run.model, {}, []
    for tokens in run.size.verified:
        plan = _plan(run, NUM_REQUESTS, tokens)
        calls: dict[str, Callable[[], object]] = {
            "device": run.waiting(partial(model.runner.forward, plan)),
            "host": partial(model.runner.logits, plan),
        }
        times = {name: scaled(spent, 1e3) for name, spent in run.timed(calls).items()}
        medians[tokens] = median(times["device"])
        floor = Floor(name=ROOFLINE, value=run.floors.forward_ms(model.weight_bytes, model.flops(tokens)))
        figures += [
            Figure(
                name=f"{tokens} token(s){where}",
                unit="ms",
                value=median(times[name]),
                p99=percentile(times[name], 99),
                floor=floor,
            )
            for name, where in (("device", ""), ("host", ", logits on the host"))
        ]
    at = Floor(name="where products take as long as weights", value=_roofline_knee(run))
    figures.append(Figure(name="knee", unit="tokens", value=knee(medians), floor=at))
    note = f"knee: the most tokens within {KNEE:g} times one token's time, without the logits' way to the host"
    return Section(name="verify", placement=run.placement, figures=figures, notes=[_described(run), note])


def knee(medians: dict[int, float]) -> float:
    """The largest of the sizes up to which all take at most KNEE times the first one's time."""
    first, within = next(iter(medians.values())), 0
    for tokens, spent in medians.items():
        if spent > KNEE * first:
            break
        within = tokens
    return float(within)


def _roofline_knee(run: Run) -> float:
    """Tokens; the number of parameters cancels out."""
    weights_ms = run.floors.read_ms(run.model.weight_bytes)
    return weights_ms / (run.model.flops(1) / run.floors.gflop_s * 1e-6)


def _plan(run: Run, rows: int, tokens: int) -> ForwardPlan:
    (plan,) = chain_plans(
        run.model.pool, [tokens], rows=rows, context=run.size.context, context_limit=run.model.runner.context_limit
    )
    return plan


def _described(run: Run) -> str:
    return (
        f"a random Llama of {run.model.multiplied / 1e6:,.1f} M parameters in bfloat16, contexts of "
        f"{run.size.context} tokens"
    )
