"""What can be said in a chat besides questions: lines that begin with a slash. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cli.completion import Question
from shared.modes import Mode

HELP = """\
/slo 50          time per output token in ms; /slo chatbot a class of the policy; /slo off neither
/seed 7          the same seed, the same tokens; /seed off
/temperature 0   0 is greedy; /temperature off leaves it to the server
/tokens 200      most tokens of an answer; /tokens off
/speculation off decodes plainly: the same tokens at another pace; /speculation on
/mode MODE       asks or orders what the verifiers do: auto, speculative, full_verification (admin key)
/system TEXT     what the assistant is told before everything else
/reset           forgets the conversation
/exit            or Ctrl-D"""


class BadCommand(Exception):
    """Words for the person who typed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation so far and how it is asked for."""

    question: Question = field(default_factory=lambda: Question(messages=(), max_tokens=None))
    system: str = ""
    turns: tuple[Mapping[str, str], ...] = ()

    def asking(self, text: str) -> Question:
        """With another question at the end."""
        first = ({"role": "system", "content": self.system},) if self.system else ()
        return replace(self.question, messages=(*first, *self.turns, {"role": "user", "content": text}))

    def answered(self, text: str, answer: str) -> Talk:
        """With the question and its answer."""
        said = ({"role": "user", "content": text}, {"role": "assistant", "content": answer})
        return replace(self, turns=(*self.turns, *said))

    @property
    def shorter(self) -> Talk:
        """Without the oldest question and its answer."""
        return replace(self, turns=self.turns[2:])

    def within(self, tokens: float, room: float) -> Talk:
        """With as many of the last turns as ``room`` holds, when all have so many ``tokens``, by their lengths."""
        whole = sum(len(turn["content"]) for turn in self.turns)
        kept = self
        while len(kept.turns) > 2 and tokens * sum(len(turn["content"]) for turn in kept.turns) > room * whole:
            kept = kept.shorter
        return kept


def obeyed(talk: Talk, line: str) -> tuple[Talk, str]:
    """The conversation after a command, and what to say. Raises BadCommand."""
    name, _, rest = line.removeprefix("/").partition(" ")
    value = rest.strip()
    if name == "help":
        return talk, HELP
    if name == "reset":
        return replace(talk, turns=()), "forgotten"
    if name == "system":
        return replace(talk, system=value), "noted" if value else "no system message"
    if name not in _SETTINGS:
        raise BadCommand(f"/{name}: no such command; /help lists them")
    question, told = _SETTINGS[name](talk.question, value)
    return replace(talk, question=question), told


def _slo(question: Question, value: str) -> tuple[Question, str]:
    if value in ("", "off"):
        return replace(question, tpot_ms=None, slo_class=None), "no target of your own"
    if value[0].isdigit() or value[0] in "-+.":
        tpot_ms = _number("/slo", value.removesuffix("ms").strip(), 0.001, 3.6e6)
        return replace(question, tpot_ms=tpot_ms, slo_class=None), f"{tpot_ms:g} ms for each token"
    return replace(question, tpot_ms=None, slo_class=value), f"class {value}"


def _seed(question: Question, value: str) -> tuple[Question, str]:
    if value in ("", "off"):
        return replace(question, seed=None), "any seed"
    seed = _whole("/seed", value, -(2**63), 2**64 - 1)
    return replace(question, seed=seed), f"seed {seed}"


def _temperature(question: Question, value: str) -> tuple[Question, str]:
    if value in ("", "off"):
        return replace(question, temperature=None), "the server's temperature"
    temperature = _number("/temperature", value, 0, 2)
    return replace(question, temperature=temperature), f"temperature {temperature:g}"


def _tokens(question: Question, value: str) -> tuple[Question, str]:
    if value in ("", "off"):
        return replace(question, max_tokens=None), "answers as long as the server lets them"
    tokens = _whole("/tokens", value, 1, 1 << 20)
    return replace(question, max_tokens=tokens), f"at most {tokens} tokens"


def _speculation(question: Question, value: str) -> tuple[Question, str]:
    if value not in ("on", "off"):
        raise BadCommand("/speculation on or off")
    return replace(question, speculation=value == "on"), f"speculation {value}"


def _number(name: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise BadCommand(f"{name} {value}: must be a number from {low:g} to {high:,.10g}")
    return number


def _whole(name: str, value: str, low: int, high: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise BadCommand(f"{name} {value}: must be a whole number from {low} to {high}")
    return number


_SETTINGS: Mapping[str, Callable[[Question, str], tuple[Question, str]]] = {
    "slo": _slo,
    "seed": _seed,
    "temperature": _temperature,
    "tokens": _tokens,
    "speculation": _speculation,
}


def mode_of(line: str) -> str | None:
    """The mode that `/mode MODE` orders; None for `/mode` alone. Raises BadCommand."""
    value = line.partition(" ")[2].strip()
    if value and value not in list(Mode):
        raise BadCommand(f"/mode {value}: there are {', '.join(Mode)}")
    return value or None
