"""Chat messages to prompt text by the model's own Jinja template, in a sandbox.

A template comes with the model directory; the sandbox keeps it from reaching Python or changing what it is given.
Globals and filters are those that Hugging Face's templates expect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import ModelError


class ChatTemplateError(ValueError):
    """The template refuses these messages; the text is safe to show."""


class ChatTemplate:
    """A compiled template. Raises ModelError when it is not valid Jinja."""

    def __init__(self, source: str, tokens: Mapping[str, str | None]) -> None:
        """``tokens``: spellings the template may use, for example ``bos_token``."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelError(f"the chat template is not valid Jinja: {error}") from None
        self._source = source
        self._tokens = {name: token or "" for name, token in tokens.items()}

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt that asks for the assistant's next message. Raises ChatTemplateError."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatTemplateError(self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        """The template's own words, if they are a constant of the template: others may quote a message."""
        words = str(error)
        return words if words and words in self._source else "the model's chat template refuses these messages"


class _GenerationBlock(Extension):
    """``{% generation %}`` marks the assistant's tokens for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
