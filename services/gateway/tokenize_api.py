"""`POST /tokenize` and `/detokenize`, with the names and shapes of vLLM."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from pydantic import Field

from services.gateway import unsupported
from services.gateway.errors import invalid
from services.gateway.handler import Gateway
from services.gateway.prompts import LONG_PROMPT
from services.gateway.responses import encode
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

    def told(tokens: list[int], with_spelling: bool) -> bytes:
        prompts = gateway.prompts
        spelled = [prompts.spelling(token) for token in tokens] if with_spelling else None
        limit = gateway.context_limit
        reply = {"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": spelled}
        return encode(reply).encode()

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest, request: Request) -> Response:
        ignored = unsupported.check_plain(body) + unsupported.check_messages(body.messages or ())
        gateway.check_model(body.model)
        given = [each for each in (body.prompt, body.messages) if each is not None]
        if len(given) != 1:
            raise invalid("prompt", "exactly one of prompt and messages must be given")
        tenant, prompts = gateway.tenant(request.headers), gateway.prompts
        tokens = await prompts.tokens(given[0], tenant, special=body.add_special_tokens)
        reply = await prompts.run(len(tokens) > LONG_PROMPT, tenant, told, tokens, bool(body.return_token_strs))
        return Response(reply, headers=unsupported.warning(ignored), media_type="application/json")

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest, request: Request, response: Response) -> dict[str, str]:
        response.headers.update(unsupported.warning(unsupported.check_plain(body)))
        gateway.check_model(body.model)
        return {"prompt": await gateway.prompts.text(body.tokens, gateway.tenant(request.headers))}
