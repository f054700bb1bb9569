"""What a client may send: OpenAI's chat and completions requests with our extensions, every field bounded.

Known fields whose behaviour does not exist yet are refused by name unless they carry their neutral value
(`unsupported`); unknown fields are kept in `model_extra` and answered with a warning.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from shared.fields import MAX_AXIS
from shared.logprobs import MAX_TOP
from shared.messages import MAX_BIAS, MAX_CONTEXT, MAX_DEPTH

ANY_OBJECT = '{"type":"object"}'
MAX_CHOICES = 16
MAX_STOPS = 16
MAX_COMPLETION_TOP = 5
MAX_BIASES = MAX_AXIS["bias"]
MAX_STOP_BYTES = 1024
MAX_MESSAGES = 4096
MAX_TARGET_MS = 3_600_000.0


def _is_text(text: str) -> str:
    """JSON can escape half of a surrogate pair, which is no text and has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "must be valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]


# What clients may send where a validator turns it into one form: for the OpenAPI document.
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_BYTES)]
Stops = Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_CONTEXT)]
OneText = Annotated[str, Field(min_length=1)]
Prompt = OneText | TokenIds | Annotated[list[OneText | TokenIds], Field(min_length=1, max_length=1)]
_BIAS_MAP = {
    "type": "object",
    "patternProperties": {"^(0|[1-9][0-9]{0,9})$": {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS}},
    "additionalProperties": False,
    "maxProperties": MAX_BIASES,
}
Biases = Annotated[Any, WithJsonSchema({"anyOf": [_BIAS_MAP, {"type": "null"}]})]


def _as_stops(value: Any) -> Any:
    """One stop string or several, as a list."""
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise PydanticCustomError("stop", "must be a string or a list of strings")
    if len(stops) > MAX_STOPS:
        raise PydanticCustomError("stop", "at most {limit} stop strings", {"limit": MAX_STOPS})
    if not all(1 <= len(_is_text(stop).encode()) <= MAX_STOP_BYTES for stop in stops):
        raise PydanticCustomError("stop", "each must be 1 to {limit} bytes long", {"limit": MAX_STOP_BYTES})
    return stops


_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")  # as JSON writes it: no id can be named twice


def _as_biases(value: Any) -> Any:
    """OpenAI's map from token ids, which are strings in JSON, to what is added to their logits."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PydanticCustomError("logit_bias", "must be a map from token ids to numbers")
    if len(value) > MAX_BIASES:
        raise PydanticCustomError("logit_bias", "at most {limit} token ids", {"limit": MAX_BIASES})
    if not all(_TOKEN_ID.fullmatch(str(token)) for token in value):
        raise PydanticCustomError("logit_bias", "its keys must be token ids")
    if not all(type(bias) in (int, float) and abs(bias) <= MAX_BIAS for bias in value.values()):
        raise PydanticCustomError(
            "logit_bias", "its values must be numbers from -{limit} to {limit}", {"limit": round(MAX_BIAS)}
        )
    return {int(token): float(bias) for token, bias in value.items()}


def _as_text(value: Any) -> Any:
    """Message content: a string, or OpenAI's list of parts if all of them are text."""
    if isinstance(value, list):
        for part in value:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text":
                raise PydanticCustomError("content", "only parts of type text are supported")
            if not isinstance(part.get("text"), str):
                raise PydanticCustomError("content", "a text part needs a text")
        return "".join(part["text"] for part in value)
    return value


def _as_prompt(value: Any) -> Any:
    """One prompt: text, token ids, or a list with one of these."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, list)):
        value = value[0]
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise PydanticCustomError("prompt", "must be a string or a list of token ids")
    if value and all(isinstance(item, (str, list)) for item in value):
        raise PydanticCustomError("prompt", "one prompt per request is supported")
    if not all(type(item) is int for item in value):
        raise PydanticCustomError("prompt", "token ids must be whole numbers")
    return value


class Options(BaseModel):
    """Base of every body and of the objects in it: strict, unknown fields kept."""

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class SloOptions(Options):
    """Targets of one request in ms, and a class of the policy that gives those which are missing."""

    service_class: str | None = Field(default=None, alias="class", min_length=1, max_length=64)
    tpot_ms: float | None = Field(default=None, gt=0, le=MAX_TARGET_MS)
    ttft_ms: float | None = Field(default=None, gt=0, le=MAX_TARGET_MS)


class SpeculationOptions(Options):
    """Whether and how deep the draft model may guess. Never changes the tokens."""

    enabled: bool = True
    max_depth: int = Field(default=MAX_DEPTH, ge=0, le=MAX_DEPTH)


class AdaServeOptions(Options):
    """Our own options, in one object."""

    slo: SloOptions | None = None
    speculation: SpeculationOptions | None = None
    acceptance: Literal["exact", "typical"] | None = None
    resumable: bool | None = None
    deadline_ms: float | None = Field(default=None, gt=0, le=MAX_TARGET_MS)
    padding: bool | None = None
    inspect: bool | None = None


class JsonSchema(Options):
    """A named JSON Schema of the output. It is always kept to, whatever ``strict`` says."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=1024)
    of_output: dict[str, Any] = Field(default_factory=lambda: {"type": "object"}, alias="schema")
    strict: bool | None = None


class ResponseFormat(Options):
    """What the output must be: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("json_schema", "type json_schema needs the field json_schema")
        if self.type != "json_schema" and self.json_schema is not None:
            raise PydanticCustomError("json_schema", "the field json_schema belongs to type json_schema only")
        return self


class StreamOptions(Options):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class TextPart(Options):
    """The only kind of content part that is understood."""

    type: Literal["text"]
    text: str


class Message(Options):
    """One chat message; content is text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_as_text, json_schema_input_type=str | list[TextPart])]
    name: str | None = Field(default=None, max_length=256)


class Sampling(Options):
    """What chat and completions have in common."""

    model: str = Field(default="default", max_length=256)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_CONTEXT)
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_CONTEXT)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1, description="-1 and 0: all")
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)
    logit_bias: Annotated[dict[int, float], BeforeValidator(_as_biases, json_schema_input_type=Biases)] = Field(
        default_factory=dict
    )
    seed: int | None = Field(default=None, ge=-(2**63), le=2**64 - 1)
    stop: Annotated[list[str], BeforeValidator(_as_stops, json_schema_input_type=Stops)] = Field(
        default_factory=list
    )
    stop_token_ids: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] | None = Field(default=None, max_length=64)
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    user: str | None = Field(default=None, max_length=512)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    adaserve: AdaServeOptions | None = None

    @property
    def limit(self) -> int | None:
        """How many tokens the client wants at most."""
        return self.max_tokens

    @property
    def output_schema(self) -> str:
        """The JSON Schema of the output, "" for free text."""
        if self.response_format is None or self.response_format.type == "text":
            return ""
        if self.response_format.json_schema is None:
            return ANY_OBJECT
        return json.dumps(self.response_format.json_schema.of_output, separators=(",", ":"))

    @property
    @abstractmethod
    def num_logprobs(self) -> int | None:
        """How many alternatives to tell with each token's log-probability; None for no log-probabilities."""


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_CONTEXT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    prompt: Annotated[Text | list[int], BeforeValidator(_as_prompt, json_schema_input_type=Prompt)]
    logprobs: int | None = Field(default=None, ge=0, le=MAX_COMPLETION_TOP)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs
