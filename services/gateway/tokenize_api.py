"""`POST /tokenize` and `/detokenize`, with the names and shapes of vLLM."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import Field

from services.gateway import unsupported
from services.gateway.errors import invalid
from services.gateway.handler import Gateway
from services.gateway.schemas import MAX_MESSAGES, Message, Options, Text
from shared.messages import MAX_CONTEXT


class TokenizeRequest(Options):
    """A prompt or messages; ``add_special_tokens`` is true for a prompt and false for messages by default."""

    model: str = Field(default="default", max_length=256)
    prompt: Text | None = None
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Options):
    """Token ids of the served model."""

    model: str = Field(default="default", max_length=256)
    tokens: list[int] = Field(max_length=MAX_CONTEXT)


def add_tokenize(app: FastAPI, gateway: Gateway) -> None:
    """Both routes."""

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest, request: Request, response: Response) -> dict[str, Any]:
        ignored = unsupported.check_plain(body) + unsupported.check_messages(body.messages or ())
        response.headers.update(unsupported.warning(ignored))
        gateway.check_model(body.model)
        given = [each for each in (body.prompt, body.messages) if each is not None]
        if len(given) != 1:
            raise invalid("prompt", "either prompt or messages must be given")
        tokens = await gateway.prompts.tokens(
            given[0], gateway.tenant(request.headers), special=body.add_special_tokens
        )
        spelled = [gateway.prompts.spelling(token) for token in tokens] if body.return_token_strs else None
        return {
            "count": len(tokens),
            "max_model_len": gateway.context_limit,
            "tokens": tokens,
            "token_strs": spelled,
        }

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest, request: Request, response: Response) -> dict[str, str]:
        response.headers.update(unsupported.warning(unsupported.check_plain(body)))
        gateway.check_model(body.model)
        return {"prompt": await gateway.prompts.text(body.tokens, gateway.tenant(request.headers))}
