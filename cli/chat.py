"""`adaserve chat`: a conversation with a running gateway."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from rich.console import Console
from rich.text import Text

from cli import mode
from cli.chat_commands import BadCommand, Talk, mode_of, obeyed
from cli.completion import Answer, CompletionFailed, Question, chunks, context_of, summary
from cli.provenance import LEGEND, Painter, show
from shared.errors import AdaServeError

TOO_LONG = "context_length_exceeded"
FORGOTTEN = "the context is filling up: the oldest questions and answers are forgotten"
HISTORY = 0.75  # of the context; the rest is for the next question and its answer
PROMPT = "› "


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve chat`."""

    url: str
    question: Question
    system: str
    headers: Mapping[str, str]
    admin_key: str | None


def run(choices: Choices) -> int:
    """Until the end of what is typed; the exit code is 1 where questions come from a pipe and one failed."""
    chat = Chat(choices)
    if chat.is_watched:
        chat.aside.print(LEGEND, "· /help lists commands, /exit leaves", style="dim")
    for line in lines(chat.aside, is_watched=chat.is_watched):
        if line in ("/exit", "/quit"):
            break
        if line:
            chat.take(line)
    return 1 if chat.failed and not chat.is_watched else 0


def lines(console: Console, *, is_watched: bool) -> Iterator[str]:
    """What is typed, or what comes through a pipe; Ctrl-C and Ctrl-D end it."""
    if not is_watched:
        yield from (line.strip() for line in sys.stdin)
        return
    import readline  # noqa: F401 - gives input() its history and editing

    while True:
        try:
            yield console.input(Text(PROMPT, "cyan")).strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return


class Chat:
    """The conversation. Answers go to stdout, everything else to stderr."""

    def __init__(self, choices: Choices) -> None:
        self.is_watched = sys.stdin.isatty() and sys.stdout.isatty()
        self.aside = Console(stderr=True, highlight=False)
        self.failed = False
        self._known_context: float | None = None
        self._out = Console(highlight=False)
        self._choices = choices
        self._painter = Painter(choices.url, choices.headers)
        question = replace(choices.question, messages=(), inspect=self._out.is_terminal)
        self._talk = Talk(question=question, system=choices.system)

    def take(self, line: str) -> None:
        """A command, or a question to answer. Says what went wrong instead of raising."""
        try:
            if line.split()[0] == "/mode":
                self._order(line)
            elif line.startswith("/"):
                self._talk, told = obeyed(self._talk, line)
                self._say(told)
            else:
                self._answer(line)
        except (BadCommand, AdaServeError) as error:
            self.failed = True
            self._say(f"adaserve: {error}", "red")
        except KeyboardInterrupt:
            self.aside.print()
            self._say("left off; it is not part of the conversation")

    def _order(self, line: str) -> None:
        wanted = mode.Wanted(mode=mode_of(line), reason="adaserve chat")
        for told in mode.lines(mode.ask(self._choices.url, self._choices.admin_key, wanted)):
            self._say(told)

    def _answer(self, line: str) -> None:
        while True:
            answer = Answer()
            try:
                asyncio.run(self._stream(self._talk.asking(line), answer))
                break
            except CompletionFailed as error:
                if error.code != TOO_LONG or not self._talk.turns:
                    raise
                self._talk = self._talk.shorter
                self._say(FORGOTTEN)
        self._out.print()
        self._say(summary(answer))
        talk = self._talk.answered(line, answer.text)
        used = answer.usage.get("prompt_tokens", 0) + answer.usage.get("completion_tokens", 0)
        self._talk = talk.within(used, HISTORY * self._context())
        if len(self._talk.turns) < len(talk.turns):
            self._say(FORGOTTEN)

    def _context(self) -> float:
        """In tokens, asked for once; without bound where the gateway does not tell."""
        if self._known_context is None:
            self._known_context = context_of(self._choices.url, self._choices.headers) or math.inf
        return self._known_context

    async def _stream(self, question: Question, answer: Answer) -> None:
        async for chunk in chunks(self._choices.url, question, answer, self._choices.headers):
            show(self._out, self._painter, chunk)

    def _say(self, words: str, style: str = "dim") -> None:
        self.aside.print(Text(words, style))
