"""Whether tokens are right on the device: the flagship in float32, the distribution in bfloat16."""

from __future__ import annotations

from rich.console import Console

from bench import distribution, flagship
from bench.gpu.run import Run
from bench.limits.figures import Figure, Section, Target

NONE = Target(limit=0.0)


def tokens(run: Run) -> Section:
    """The running system, both models on the device, against stock transformers on a CPU, in float32."""
    run.release()
    console = Console(stderr=True)
    wanted = flagship.streams(run.size.prompts)
    verdict = flagship.compare("float32", wanted, run.size.tokens, console, device=str(run.device))
    figures = [
        Figure(name="streams", unit="", value=float(verdict.streams)),
        Figure(name="different", unit="", value=float(verdict.unequal), target=NONE),
        Figure(name="different from generate", unit="", value=float(verdict.unequal_to_generate), target=NONE),
        Figure(
            name="near ties",
            unit="",
            value=float(verdict.tied),
            target=Target(limit=max(1.0, flagship.MAX_TIED_SHARE * verdict.streams)),
        ),
        Figure(name="accepted per step", unit="", value=verdict.accepted_per_step),
    ]
    return Section(name="flagship", placement=run.placement, figures=figures, notes=[flagship.describe(verdict)])


def samples(run: Run) -> Section:
    """`bench.distribution` on the device."""
    verdict = distribution.measure(
        samples=run.size.samples, tokens=8, prompts=run.size.sample_prompts, device=str(run.device)
    )
    figures = [
        Figure(name="p", unit="", value=verdict.p_value, target=Target(limit=distribution.ALPHA, at_least=True)),
        Figure(
            name=f"p at temperature {distribution.WRONG:g}",
            unit="",
            value=verdict.p_value_of_wrong,
            target=Target(limit=distribution.ALPHA),
        ),
    ]
    return Section(name="distribution", placement=run.placement, figures=figures, notes=[verdict.describe()])
