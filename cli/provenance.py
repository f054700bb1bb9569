"""Text in the colours of where its tokens came from: drafted and accepted, or the target's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import httpx
from rich.console import Console
from rich.text import Text

from cli.completion import Chunk

TIMEOUT_S = 5.0
DRAFTED, OWN, UNKNOWN = "green", "bold", ""
ESCAPE, VISIBLE = "\x1b", "␛"
LEGEND = Text.assemble(("drafted and accepted", DRAFTED), " · ", ("the target's own", OWN))


class Painter:
    """Splits chunks whose tokens have several origins, by asking the gateway once what each token's text is."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = dict(headers)
        self._known: dict[int, str | None] = {}

    def painted(self, chunk: Chunk) -> Text:
        """Uncoloured where the gateway does not tell."""
        flags = chunk.drafted
        if not flags or len(flags) != len(chunk.token_ids):
            return Text(chunk.text)
        if len(set(flags)) == 1:
            return Text(chunk.text, style_of(flags[0]))
        texts = [self._text(token) for token in chunk.token_ids]
        if "".join(text or "" for text in texts) != chunk.text:
            return Text(chunk.text)  # half characters, or text that was held back
        return Text.assemble(*((text or "", style_of(flag)) for text, flag in zip(texts, flags, strict=True)))

    def _text(self, token: int) -> str | None:
        if token not in self._known:
            self._known[token] = self._asked(token)
        return self._known[token]

    def _asked(self, token: int) -> str | None:
        try:
            answer = httpx.post(
                f"{self._url}/detokenize",
                json={"model": "default", "tokens": [token]},
                headers=self._headers,
                timeout=TIMEOUT_S,
                trust_env=False,
            )
            return str(answer.raise_for_status().json()["prompt"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None  # colours are not worth an error


def style_of(drafted: bool | None) -> str:
    """For rich."""
    return {True: DRAFTED, False: OWN, None: UNKNOWN}[drafted]


def show(console: Console, painter: Painter, chunk: Chunk) -> None:
    """As it streams in: no line of its own, and where no terminal is, just its characters.

    On a terminal an escape is shown and not obeyed.
    """
    if console.is_terminal:
        text = painter.painted(replace(chunk, text=chunk.text.replace(ESCAPE, VISIBLE)))
        console.print(text, end="", soft_wrap=True, highlight=False)
    else:
        console.file.write(chunk.text)
        console.file.flush()
