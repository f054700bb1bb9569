"""The gateway without HTTP: checked requests in, completions out; the parts that live as long as the process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from services.gateway import admission, history, idempotency, slo, stream_ids, tenancy, usage_report
from services.gateway.allowance import Allowance
from services.gateway.answer import Answer
from services.gateway.audit import Audit
from services.gateway.authentication import Authenticator
from services.gateway.bus import Bus
from services.gateway.completion import Parts
from services.gateway.door import Door
from services.gateway.errors import ApiError, invalid
from services.gateway.fleet import Fleet
from services.gateway.history import History
from services.gateway.inspection import Inspection
from services.gateway.key_ring import KeyRing
from services.gateway.live import LiveView
from services.gateway.padding import padding_of
from services.gateway.policy_source import PolicySource
from services.gateway.prompts import Prompts
from services.gateway.quotas import Quotas
from services.gateway.reaper import reap
from services.gateway.redis_figures import RedisFigures
from services.gateway.request_span import Tracing
from services.gateway.resumption import Resumption
from services.gateway.rollouts import Rollouts
from services.gateway.schema_check import SchemaCheck
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.settings import GatewaySettings, is_loopback, secret
from services.gateway.streams import Streams
from services.gateway.submission import Asked, Submission
from services.gateway.tasks import end, vital
from services.gateway.terms import Terms, Wish, agree, offers
from services.gateway.upstream import Detour, UpstreamServer
from shared import signals
from shared.api_keys import Scope
from shared.errors import BusUnavailable, ConfigurationError, UnreadableMessage
from shared.heartbeat import Heartbeat
from shared.messages import MAX_CONTEXT
from shared.modes import Order
from shared.policy import Policy
from shared.streams import OwnedStream
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import Keys
from shared.tracing import Attribute
from shared.usage import Row, Usage, hours

logger = logging.getLogger(__name__)

DEFAULT_ALIAS = "default"


class Gateway:
    """One gateway member of a cell. Built and started on the event loop that serves."""

    def __init__(
        self,
        settings: GatewaySettings,
        member: str,
        tokenizer: Tokenizer,
        telemetry: Telemetry,
        policy: Policy | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.started = int(time.time())
        keys = Keys(settings.cell)
        self.is_draining = False
        self._tokenizer = tokenizer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bus = Bus(settings.bus_url, keys, member)
        self._streams = Streams(settings.bus_url, self._bus, telemetry)
        self._fleet = Fleet(settings.bus_url, keys, tokenizer.token_map_digest)
        self.audit = Audit(self._bus)
        self.policies = PolicySource(
            settings.policy_file, policy, telemetry, secret=secret, record=self.audit.record
        )
        self._quotas = Quotas(self._bus, settings.bus_url, telemetry, lambda: self.policies.current)
        self.rollouts = Rollouts(self._bus, self.policies, telemetry, record=self.audit.record)
        self.upstream = UpstreamServer(telemetry, self.rollouts.finished, secret)
        parts = self._new_parts()
        self.figures = RedisFigures(self._bus, telemetry)
        self.ring = KeyRing(self._bus, telemetry, self.audit.record, settings.keys_file)
        self.authenticator = self._new_authenticator()
        self.prompts = Prompts(tokenizer)
        self._resumption = Resumption(parts)
        self.inspection = Inspection(self._bus, self._resumption, tokenizer)
        self.live = LiveView(
            self._bus,
            parts.attainment,
            policy=lambda: self.policies.current,
            zero_load_ms=lambda: self.zero_load_ms,
            is_draining=lambda: self.is_draining,
        )
        self._schemas = SchemaCheck(settings.target)
        self._submission = self._new_submission(parts)
        self._tasks: list[asyncio.Task[None]] = []
        self._heartbeat = Heartbeat(
            settings.bus_url,
            keys,
            "gateway",
            member,
            lambda: {"model": settings.model_id},
            [OwnedStream(keys.tokens(member))],
            on_recreated=lambda _: self._from_thread(self._streams.on_recreated),
            keeps_library=True,
        )

    def _new_parts(self) -> Parts:
        settings = self.settings
        return Parts(
            bus=self._bus,
            streams=self._streams,
            fleet=self._fleet,
            telemetry=self.telemetry,
            tokenizer=self._tokenizer,
            patience_s=settings.verifier_patience_s,
            grace_s=settings.resume_grace_s,
            quotas=self._quotas,
            tracing=_tracing(settings),
            finished=self.rollouts.finished,
        )

    def _new_authenticator(self) -> Authenticator:
        settings = self.settings
        return Authenticator(
            self.ring,
            self.telemetry,
            admin_key=settings.admin_secret,
            is_local=is_loopback(settings.http_host),
            is_unsafe=settings.unsafe_open_bind,
            allowed_hosts=settings.host_names,
        )

    def _new_submission(self, parts: Parts) -> Submission:
        settings = self.settings
        return Submission(
            parts,
            self.prompts,
            self._resumption,
            Door(
                self._bus,
                self._fleet,
                patience_s=settings.verifier_patience_s,
                refuse_unreachable=settings.refuse_unreachable,
            ),
            self._schemas,
            model=settings.model_id,
            limits=self._limits,
            max_inspected=settings.max_inspected,
            padding=partial(padding_of, multiple=settings.padding_bytes, always=settings.padding),
        )

    async def start(self) -> None:
        """Raises BusUnavailable when Redis does not answer, unless there are keys to begin without it.

        Raises ConfigurationError where it may not be reached from where it listens, or for a bad file of keys.
        """
        self._loop = asyncio.get_running_loop()
        await self.ring.load()
        if not self.authenticator.can_be_bound:
            raise ConfigurationError(
                f"ADASERVE_HTTP_HOST={self.settings.http_host!r} is not loopback, and there are no API keys: "
                "name a file of them in ADASERVE_KEYS_FILE (adaserve keys create --for-file), set "
                "ADASERVE_ADMIN_KEY to create some, or let everybody in with ADASERVE_UNSAFE_OPEN_BIND=true"
            )
        try:
            await self._bus.start()
            await self._fleet.refresh()
        except BusUnavailable as error:
            if self.settings.keys_file is None:
                raise
            logger.warning("Redis does not answer at the start, requests are refused until it does: %s", error)
        self._heartbeat.start(needs_bus=self.settings.keys_file is None)
        self._fleet.start()
        self.ring.start()
        self._quotas.start()
        self._streams.start()
        self._tasks = [
            vital(reap(self._bus)),
            vital(self.policies.watch()),
            vital(self.rollouts.watch()),
            vital(self.figures.watch()),
        ]

    def drain(self) -> None:
        """Take no more requests; those that are open go on."""
        self.is_draining = True

    def end_streams(self) -> None:
        """Tell every client that is still waiting that this process goes, and where its answer is."""
        self._streams.leave_all()

    async def stop(self) -> None:
        await self._fleet.stop()
        await self._schemas.stop()
        await self.ring.stop()
        await end(self._tasks)
        await self._quotas.stop()
        await self.upstream.stop()
        await self._bus.stop()
        await self._streams.stop()
        self._heartbeat.stop()

    def _from_thread(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    @property
    def is_alive(self) -> bool:
        """Whether the process can do its work if Redis and a verifier are there."""
        return self._streams.is_running and self._fleet.is_running and self._heartbeat.is_running

    async def is_ready(self) -> bool:
        """Whether a request would be served now: Redis takes writes and a warm verifier lives."""
        return not self.is_draining and self._fleet.is_ready and await self._bus.can_write()

    async def modes(self) -> dict[str, Any]:
        """Operators' orders by scope, and how every verifier decodes now. Raises ApiError 503."""
        try:
            orders = await self._bus.orders()
        except (BusUnavailable, UnreadableMessage) as error:
            raise admission.unavailable(f"verification modes cannot be read: {error}") from None
        return {
            "orders": {name: order.json() for name, order in sorted(orders.by_scope.items())},
            "verifiers": self._fleet.modes(),
        }

    async def usage(self, asked: usage_report.Wanted) -> dict[Row, Usage]:
        """Of the period that is asked for. Raises ApiError 503, and 400 where it is too much."""
        rows: dict[Row, Usage] = {}
        try:
            async for stored in self._bus.usage(hours(asked.since, asked.until)):
                await asyncio.to_thread(usage_report.collect, rows, stored, asked)
        except BusUnavailable:
            raise admission.unavailable("usage cannot be read: the message bus does not answer") from None
        return rows

    async def history(self, stream: str) -> History:
        """Of a request, by its id or its completion's. Raises ApiError 404 and 503."""
        try:
            request = stream_ids.request_of(stream)
            found = history.unpack(request, await self._bus.history(request))
        except BusUnavailable:
            raise admission.unavailable("the message bus does not answer") from None
        except ApiError:  # what can be no request's id
            found = None
        if found is None:
            raise ApiError(
                404,
                "There is no such request, or it ended more than ten minutes ago: its account goes with it",
                code="request_not_found",
                param="id",
            )
        return found

    async def order(self, scope: str, order: Order) -> None:
        """From the next iteration on. Raises ApiError 503; the order may then have been taken or not."""
        try:
            await self._bus.order(scope, order)
        except BusUnavailable:
            raise admission.unavailable(
                "the message bus does not answer; the mode may or may not be set"
            ) from None
        logger.warning(
            "verification mode of %s set to %s: %s", scope, order.mode, order.reason or "no reason given"
        )

    def tenant(self, headers: Mapping[str, str]) -> str:
        """Who asks. Raises ApiError 403 for a tenant that the policy does not know."""
        return tenancy.tenant_of(headers, self.policies.current)

    def check_tenant(self, tenant: str, scopes: Collection[Scope]) -> None:
        """Raises ApiError 400 for a tenant that could ask for nothing."""
        policy = self.policies.current
        if Scope.INFERENCE in scopes and policy is not None and tenant not in policy.tenants:
            known = ", ".join(list(policy.tenants)[:20])
            raise invalid("tenant", f"{tenant!r} is not in the policy; there are {known}")

    def check_scope(self, tenant: str | None, slo_class: str | None) -> None:
        """Raises ApiError 400 for an order that would protect nobody, for its name is in no policy.

        Without a policy tenants may have any name, but the only classes are those that need none.
        """
        policy = self.policies.current
        if tenant is not None:
            self.check_tenant(tenant, [Scope.INFERENCE])
        classes = [] if policy is None else list(policy.classes)
        if slo_class is not None and slo_class not in {slo.BEST_EFFORT, slo.CUSTOM, *classes}:
            known = ", ".join([*classes[:20], slo.BEST_EFFORT, slo.CUSTOM])
            where = "is not in the policy" if policy is not None else "is no class, for there is no policy"
            raise invalid("class", f"{slo_class!r} {where}; there are {known}")

    def promises(self) -> dict[str, Any]:
        """The policy in force and what its classes promise now, to tenants with schedules of their own apart."""
        told: dict[str, Any] = {"policy": self.policies.about()}
        policy, at = self.policies.current, datetime.now(UTC)
        if policy is None:
            return told
        names = {one.tenant for one in policy.schedules if one.tenant is not None}
        return told | {
            "classes": {name: promise.told() for name, promise in policy.promises(None, at).items()},
            "tenants": {
                tenant: {name: promise.told() for name, promise in policy.promises(tenant, at).items()}
                for tenant in policy.tenants
                if tenant in names
            },
            "schedules": [one.is_on(at) for one in policy.schedules],
        }

    @property
    def context_limit(self) -> int:
        """Tokens of prompt and output together."""
        known = [
            limit for limit in (self._tokenizer.context_limit, self._fleet.context_limit) if limit is not None
        ]
        return min(known, default=MAX_CONTEXT)

    @property
    def zero_load_ms(self) -> float | None:
        """Time per token of the fastest verifier when it is idle; None before one has told it."""
        return self._fleet.zero_load_ms

    def slo_classes(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """What the tenant may ask for by name. Raises ApiError 403 for a tenant that the policy does not know."""
        policy = self.policies.current
        tenant = tenancy.tenant_of(headers, policy)
        return offers(policy, tenant, at=datetime.now(UTC), zero_load_ms=self._fleet.zero_load_ms)

    def serves(self, model: str) -> bool:
        return model in (DEFAULT_ALIAS, self.settings.model_id)

    async def submit(self, body: ChatRequest | CompletionRequest, headers: Mapping[str, str]) -> Answer | Detour:
        """Queue a request, or join the one that its idempotency key names; a Detour for one that is not ours.

        Raises ApiError; whoever gets the answer closes it.
        """
        self._check_open()
        arrived = time.monotonic()
        policy = self.policies.current  # the same one all through, whatever comes meanwhile
        tenant = tenancy.tenant_of(headers, policy)
        targets = slo.resolve(body.adaserve.slo if body.adaserve else None, headers)
        self.check_model(body.model)
        key = idempotency.key_of(headers)
        terms = self._in_arm(self._terms(policy, tenant, body, targets), policy, body.user or key, headers)
        asked = Asked(
            body=body,
            terms=terms,
            traceparent=headers.get("traceparent"),
            arrived=arrived,
            body_digest="" if key is None else idempotency.digest_of(body, targets),
        )
        if terms.upstream is not None:
            message, grant = await self._submission.screen(asked)
            is_bounded = terms.max_tokens is not None or (grant is not None and grant.is_bounded)
            most = message.max_tokens if is_bounded and (body.limit or MAX_CONTEXT) > message.max_tokens else None
            numbers = {} if most is None else admission.cut_members(body, most)
            return Detour(terms, terms.upstream, arrived, bool(body.stream), grant, numbers)
        return await (self._submission.submit(asked) if key is None else self._submission.submit_once(key, asked))

    async def resume(self, stream: str, last_event_id: str | None, headers: Mapping[str, str]) -> Answer:
        """Join a request after the event that the client has seen last. Raises ApiError, as `submit`."""
        self._check_open()
        tenant = self.tenant(headers)
        found = await self._resumption.resume(tenant, stream, last_event_id, headers.get("traceparent"))
        return Answer([found])

    async def cancel(self, stream: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """End a request, if it has not ended; how it ended. Raises ApiError."""
        request, status = await self._resumption.cancel(self.tenant(headers), stream)
        return {"id": request, "object": "stream", "status": status}

    def _in_arm(self, terms: Terms, policy: Policy | None, key: str | None, headers: Mapping[str, str]) -> Terms:
        """By its user or its idempotency key a request always has the same arm; without them its id decides."""
        if policy is None or policy.rollout is None:
            return terms
        name = key or headers.get("x-request-id") or admission.new_id()
        arm = self.rollouts.arm(policy, terms.tenant, name)
        terms = terms.in_arm(arm, policy.rollout)
        if arm is not None:
            by = "here" if terms.upstream is None else "upstream"
            self.telemetry.add(signals.ROLLOUT_REQUESTS, arm=arm, by=by)
        return terms

    def _terms(
        self, policy: Policy | None, tenant: str, body: ChatRequest | CompletionRequest, targets: slo.Slo
    ) -> Terms:
        options = body.adaserve.slo if body.adaserve else None
        return agree(
            policy,
            tenant,
            Wish(
                service_class=options.service_class if options else None,
                service_tier=body.service_tier,
                targets=targets,
                acceptance=body.adaserve.acceptance if body.adaserve else None,
            ),
            at=datetime.now(UTC),
            zero_load_ms=self._fleet.zero_load_ms,
            limit=self.settings.queue_limit,
        )

    def _limits(self) -> admission.ModelLimits:
        return admission.ModelLimits(
            self._tokenizer.vocab_size, self.context_limit, self.settings.default_max_tokens
        )

    def _check_open(self) -> None:
        if self.is_draining:
            raise admission.refused()

    def check_model(self, model: str) -> None:
        """Raises ApiError 400 for a model that is not served."""
        if not self.serves(model):
            raise ApiError(
                400,
                f"model: {model[:64]!r} is not served here; there is {self.settings.model_id!r}, "
                f"also called {DEFAULT_ALIAS!r}",
                code="model_not_found",
                param="model",
            )


def _tracing(settings: GatewaySettings) -> Tracing:
    server: dict[str, Attribute] = {signals.SERVER_ADDRESS: settings.http_host}
    if settings.http_port:
        server[signals.SERVER_PORT] = settings.http_port
    allowance = Allowance(settings.trace_missed_per_s, time.monotonic)
    return Tracing(settings.trust_traceparent, settings.trace_missed, allowance, server)
