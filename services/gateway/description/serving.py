"""What users' requests are answered: completions, streams, tokens, models."""

from __future__ import annotations

from services.gateway.description import examples, replies
from services.gateway.description.operation import (
    AFTER,
    BODY_ERRORS,
    EITHER,
    EVENT_HEADERS,
    EVENT_STREAM,
    KEY_ERRORS,
    RESUME_HEADERS,
    STREAM_HEADERS,
    SUBMIT_ERRORS,
    SUBMIT_HEADERS,
    TENANT_HEADERS,
    TERMS_HEADERS,
    TEXT_LINKS,
    WARNING_HEADERS,
    Answer,
    Operation,
    in_json,
    of_completion,
    of_events,
)
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.tokenize_api import DetokenizeRequest, TokenizeRequest
from shared.api_keys import Scope

SERVING = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="chat",
        scope=Scope.INFERENCE,
        summary="Complete a chat through the model's template",
        body=ChatRequest,
        body_examples=examples.CHATS,
        headers=SUBMIT_HEADERS,
        answers={
            200: of_completion(
                replies.ChatCompletion,
                replies.ChatCompletionChunk,
                examples.CHAT_REPLY,
                examples.CHAT_EVENTS,
                description=EITHER,
            )
        },
        errors=SUBMIT_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        name="complete",
        scope=Scope.INFERENCE,
        summary="Complete a text or token ids",
        body=CompletionRequest,
        body_examples=examples.COMPLETIONS,
        headers=SUBMIT_HEADERS,
        answers={
            200: of_completion(
                replies.Completion,
                replies.CompletionChunk,
                examples.COMPLETION_REPLY,
                examples.COMPLETION_EVENTS,
                description=EITHER,
            )
        },
        errors=SUBMIT_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/streams/{stream}",
        name="resume",
        scope=Scope.INFERENCE,
        summary="Take a stream up again, from its beginning or after an event",
        headers={**TENANT_HEADERS, **RESUME_HEADERS},
        path_examples={"stream": examples.STREAM},
        answers={
            200: Answer(
                description="The rest of the stream, in the shape of the endpoint that the request came to",
                content={
                    EVENT_STREAM: of_events(
                        replies.ChatCompletionChunk, replies.CompletionChunk, example=examples.CHAT_EVENTS
                    )
                },
                headers={**STREAM_HEADERS, **EVENT_HEADERS, **TERMS_HEADERS},
            )
        },
        errors=(400, *KEY_ERRORS, 404, 409, 500, 503),
    ),
    Operation(
        method="get",
        path="/v1/streams/{stream}/inspect",
        name="inspect",
        scope=Scope.INFERENCE,
        summary="What the iterations of a request were that asked for `adaserve.inspect`",
        headers=TENANT_HEADERS,
        path_examples={"stream": examples.STREAM},
        query=AFTER,
        answers={200: in_json(replies.Inspected, examples.INSPECTED)},
        errors=(400, *KEY_ERRORS, 404, 500, 503),
    ),
    Operation(
        method="delete",
        path="/v1/streams/{stream}",
        name="cancel",
        scope=Scope.INFERENCE,
        summary="Cancel a request",
        headers=TENANT_HEADERS,
        path_examples={"stream": examples.STREAM},
        answers={200: in_json(replies.CancelledStream, examples.CANCELLED)},
        errors=(*KEY_ERRORS, 404, 413, 500, 503),
    ),
    Operation(
        method="post",
        path="/tokenize",
        name="tokenize",
        scope=Scope.INFERENCE,
        summary="The token ids of a prompt, or of messages through the chat template",
        body=TokenizeRequest,
        body_examples=examples.TOKENIZE,
        answers={200: in_json(replies.Tokens, examples.TOKENS, headers=WARNING_HEADERS, links=TEXT_LINKS)},
        headers=TENANT_HEADERS,
        errors=(*BODY_ERRORS, *KEY_ERRORS, 500, 503),
    ),
    Operation(
        method="post",
        path="/detokenize",
        name="detokenize",
        scope=Scope.INFERENCE,
        summary="The text of token ids, special tokens included",
        body=DetokenizeRequest,
        body_examples=examples.DETOKENIZE,
        answers={200: in_json(replies.Detokenized, {"prompt": "import os"}, headers=WARNING_HEADERS)},
        headers=TENANT_HEADERS,
        errors=(*BODY_ERRORS, *KEY_ERRORS, 500, 503),
    ),
    Operation(
        method="get",
        path="/v1/models",
        name="models",
        scope=Scope.INFERENCE,
        summary="The one served model, with the SLO classes on offer",
        headers=TENANT_HEADERS,
        answers={200: in_json(replies.ModelList, {"object": "list", "data": [examples.MODEL]})},
        errors=(*KEY_ERRORS, 500),
    ),
    Operation(
        method="get",
        path="/v1/models/{model}",
        name="model",
        scope=Scope.INFERENCE,
        summary="The served model by its name, or as `default`",
        headers=TENANT_HEADERS,
        path_examples={"model": "default"},
        answers={200: in_json(replies.Model, examples.MODEL)},
        errors=(*KEY_ERRORS, 404, 500),
    ),
)
