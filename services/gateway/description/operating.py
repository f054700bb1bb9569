"""What operators and their machines are answered: probes, figures, /admin."""

from __future__ import annotations

from services.gateway.admin import ModeOrder, RolloutOrder
from services.gateway.description import examples
from services.gateway.description import operator_replies as replies
from services.gateway.description import replies as user_replies
from services.gateway.description.operation import (
    ADMIN_ERRORS,
    AFTER,
    BODY_ERRORS,
    Answer,
    Content,
    Operation,
    in_json,
    in_text,
)
from services.gateway.keys_api import NewKey, Rotation
from services.gateway.usage_api import CSV, MAX_TIME
from shared.api_keys import Scope
from shared.health import PROMETHEUS_TEXT
from shared.modes import MAX_NAME
from shared.topics import AUDIT_MAXLEN
from shared.usage import Period

_TIME = {"type": "string", "maxLength": MAX_TIME, "description": "ISO 8601 date or time, UTC without an offset"}
OPERATING = (
    Operation(
        method="get",
        path="/live",
        name="live",
        scope=None,
        summary="Whether the process can do its work; never asks Redis",
        answers={200: in_text("ok\n"), 503: in_text("no\n")},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/ready",
        name="ready",
        scope=None,
        summary="Whether a request would be served now",
        answers={200: in_text("ok\n"), 503: in_text("no\n")},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/metrics",
        name="metrics",
        scope=None,
        summary="Figures for Prometheus",
        answers={200: in_text(examples.METRICS, PROMETHEUS_TEXT)},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/version",
        name="version",
        scope=None,
        summary="The server's version",
        answers={200: in_json(replies.Version, {"version": "0.1.0"})},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/openapi.json",
        name="document",
        scope=None,
        summary="This document",
        answers={200: in_json(replies.Document, {"openapi": "3.1.0", "info": {}, "paths": {}})},
        errors=(500,),
    ),
    Operation(
        method="get",
        path="/admin/mode",
        name="modes",
        summary="Operators' orders, and how every verifier decodes now",
        scope=Scope.ADMIN,
        answers={200: in_json(replies.Modes, examples.MODES)},
        errors=(*ADMIN_ERRORS, 503),
    ),
    Operation(
        method="put",
        path="/admin/mode",
        name="order",
        summary="Set the verification mode of the cell, a tenant or a class",
        body=ModeOrder,
        body_examples=examples.ORDERS,
        scope=Scope.ADMIN,
        answers={200: in_json(replies.Modes, examples.MODES)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 503),
    ),
    Operation(
        method="get",
        path="/admin/live",
        name="live_view",
        summary="The cell now: classes, verifiers, running requests, queues; cheap enough for each second",
        scope=Scope.ADMIN,
        answers={200: in_json(replies.Live, examples.LIVE)},
        errors=(*ADMIN_ERRORS, 503),
    ),
    Operation(
        method="get",
        path="/admin/streams/{stream}/inspect",
        name="inspect_any",
        summary="The iterations of any tenant's inspected request: its content. Goes into the audit trail",
        scope=Scope.ADMIN,
        path_examples={"stream": examples.STREAM},
        query=AFTER,
        answers={200: in_json(user_replies.Inspected, examples.INSPECTED)},
        errors=(400, *ADMIN_ERRORS, 404, 503),
    ),
    Operation(
        method="get",
        path="/admin/slo",
        name="promises",
        summary="The policy in force, and what its classes promise now",
        scope=Scope.ADMIN,
        answers={200: in_json(replies.Promises, examples.PROMISES)},
        errors=ADMIN_ERRORS,
    ),
    Operation(
        method="get",
        path="/admin/rollout",
        name="rollout",
        summary="Where the policy's staged introduction stands",
        scope=Scope.ADMIN,
        answers={200: in_json(replies.RolloutStage, examples.ROLLOUT)},
        errors=(*ADMIN_ERRORS, 404),
    ),
    Operation(
        method="put",
        path="/admin/rollout",
        name="change_rollout",
        summary="Go to a step of it, halt it, or let it go on",
        body=RolloutOrder,
        body_examples=examples.ROLLOUT_ORDERS,
        scope=Scope.ADMIN,
        answers={200: in_json(replies.RolloutStage, examples.ROLLOUT)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 404, 503),
    ),
    Operation(
        method="get",
        path="/admin/keys",
        name="keys",
        summary="Every API key, without secrets",
        scope=Scope.ADMIN,
        answers={200: in_json(replies.KeyList, {"keys": [examples.KEY], "age_s": 0.4})},
        errors=ADMIN_ERRORS,
    ),
    Operation(
        method="post",
        path="/admin/keys",
        name="create_key",
        summary="Make an API key; its secret is told this once",
        body=NewKey,
        body_examples=examples.NEW_KEYS,
        scope=Scope.ADMIN,
        answers={201: in_json(replies.KeyWithSecret, examples.KEY_WITH_SECRET)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 409, 503),
    ),
    Operation(
        method="delete",
        path="/admin/keys/{key_id}",
        name="revoke_key",
        summary="Revoke an API key",
        path_examples={"key_id": examples.KEY["id"]},
        scope=Scope.ADMIN,
        answers={200: in_json(replies.Key, examples.REVOKED_KEY)},
        errors=(*ADMIN_ERRORS, 404, 409, 413, 503),
    ),
    Operation(
        method="post",
        path="/admin/keys/{key_id}/rotate",
        name="rotate_key",
        summary="A new secret; those before go on for a while",
        body=Rotation,
        body_examples={"a day": {"grace": "24h"}},
        path_examples={"key_id": examples.KEY["id"]},
        scope=Scope.ADMIN,
        answers={200: in_json(replies.KeyWithSecret, examples.KEY_WITH_SECRET)},
        errors=(*BODY_ERRORS, *ADMIN_ERRORS, 404, 409, 503),
    ),
    Operation(
        method="get",
        path="/admin/audit",
        name="audit",
        summary="The last changes by operators, oldest first",
        scope=Scope.ADMIN,
        query={
            "limit": {
                "schema": {"type": "integer", "minimum": 1, "maximum": AUDIT_MAXLEN, "default": 100},
                "example": 100,
            }
        },
        answers={200: in_json(replies.AuditTrail, {"events": [examples.CHANGE]})},
        errors=(400, *ADMIN_ERRORS, 503),
    ),
    Operation(
        method="get",
        path="/admin/usage",
        name="usage",
        summary="What each tenant has used in each class, by hour or day",
        scope=Scope.ADMIN,
        query={
            "since": {"schema": _TIME, "example": "2026-11-28"},
            "until": {"schema": _TIME, "example": "2026-11-29T00:00:00Z"},
            "tenant": {"schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME}},
            "by": {"schema": {"type": "string", "enum": [*Period], "default": "day"}, "example": "hour"},
            "format": {"schema": {"type": "string", "enum": ["json", "csv"], "default": "json"}},
        },
        answers={
            200: Answer(
                description="Rows and totals; as CSV with `format=csv`",
                content={
                    "application/json": Content(schema=replies.UsageReport, example=examples.USAGE_REPORT),
                    CSV: Content(schema={"type": "string"}, example=examples.USAGE_CSV),
                },
                headers={"content-disposition": {"schema": {"type": "string"}}},
            )
        },
        errors=(400, *ADMIN_ERRORS, 503),
    ),
    Operation(
        method="get",
        path="/admin/requests/{request_id}",
        name="account",
        summary="Where one request's time went, and why it met or missed its targets",
        scope=Scope.ADMIN,
        path_examples={"request_id": examples.REQUEST},
        answers={200: in_json(replies.RequestAccount, examples.ACCOUNT)},
        errors=(*ADMIN_ERRORS, 404, 503),
    ),
)
