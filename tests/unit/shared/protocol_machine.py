"""Random histories of one cell, run on the real scripts and on the model side by side.

Every rule may use what is current, what was current once (stale epochs, old queue entries, commits sent again) or
what never was (other digests), and Redis may forget a request, a journal or the last commits.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

from shared import digest as chain
from shared.scripts import (
    UNSHARED,
    Call,
    Commit,
    CommitRow,
    Contradiction,
    Origin,
    Room,
    Terminal,
    attach,
    call,
    cancel,
    claim,
    commit,
    enqueue,
    leave,
    release,
    reseed,
    room,
)
from shared.topics import HEARTBEAT_TTL_MS, VERIFIER_GROUP, Keys
from shared.usage import total
from tests.unit.shared.protocol_model import RELEASED, Held, Model
from tests.unit.shared.queue_model import Charge, TierQueue
from tests.used import usage_of

PROMPT = 2
REQUESTS = ("a", "b")
VERIFIERS = ("v.1", "v.2")
GATEWAYS = ("g.1", "g.2")
TIERS = ("0", "1")
QUEUES = (*TIERS, RELEASED)
WINDOW = 1  # of the library under test, or two requests would never wait
CHARGES = {"a": Charge("t", 3, 1.0), "b": Charge("t", 5, 2.5)}
HASH_FIELDS = (
    "status",
    "owner",
    "epoch",
    "position",
    "digest",
    "crash_claims",
    "gateway",
    "attachment",
    "claimed_position",
)

T = TypeVar("T")

requests = st.sampled_from(REQUESTS)
verifiers = st.sampled_from(VERIFIERS)
gateways = st.sampled_from(GATEWAYS)
numbers = st.integers(1, 3)
token_lists = st.lists(st.integers(0, 3), max_size=2)
seldom = st.sampled_from([False, False, True, False, False])  # what ends a request, or it would never get far


def packed(tokens: list[int]) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


def prompt_digest(request: str) -> bytes:
    return chain.extend(chain.EMPTY, [ord(request), 0])


class ProtocolMachine(RuleBasedStateMachine):
    """Set `client` (with the library to test loaded, its window WINDOW) on a subclass."""

    client: ClassVar[Redis]
    reached: ClassVar[set[tuple[str, str]]]
    keys: ClassVar[Keys] = Keys("machine")

    def __init__(self) -> None:
        super().__init__()
        tiers = {
            tier: TierQueue(lambda request, tier=tier: self._new_entry(tier, request), WINDOW) for tier in TIERS
        }
        self.model = Model(tiers, self._new_entry)
        self.entries: dict[str, list[tuple[str, str]]] = {request: [] for request in REQUESTS}
        self.epochs: dict[str, list[tuple[str, str]]] = {request: [("", "0")] for request in REQUESTS}
        self.rows: list[CommitRow] = []
        self.past: dict[str, list[Held]] = {request: [] for request in REQUESTS}
        self.serial = 0

    @initialize()
    def begin(self) -> None:
        self.client.flushall()
        for stream in QUEUES:
            self.client.xgroup_create(self._queue(stream), VERIFIER_GROUP, id="0", mkstream=True)
        for gateway in GATEWAYS:
            self.client.xgroup_create(self.keys.tokens(gateway), "g", mkstream=True)
        # Most of what can go wrong needs a live owner: histories begin with one.
        self._set_live(VERIFIERS[0], True)
        self._enqueue("a", TIERS[0], GATEWAYS[0])
        queue, entry = self.entries["a"][0]
        self._claim("a", VERIFIERS[0], "", "0", queue, entry)

    def _queue(self, name: str) -> str:
        return self.keys.released if name == RELEASED else self.keys.requests(int(name))

    def _new_entry(self, queue: str, request: str) -> str:
        """The entry that the server has just given a request; the model has not got it yet."""
        known = self.model.stream(queue)
        found: Any = self.client.xrange(self._queue(queue))
        entries = [entry.decode() for entry, fields in found if fields[b"body"].decode() == request]
        return next((entry for entry in entries if entry not in known), "")

    def _call(self, request: Call[T]) -> T:
        reply = call(self.client, request)
        statuses = reply.results if isinstance(reply, Commit) else [getattr(reply, "status", reply)]
        self.reached.update((request.function.removeprefix("adaserve_"), str(status)) for status in statuses)
        return reply

    def _next(self) -> bytes:
        self.serial += 1
        return f"event {self.serial}".encode()

    def _remember(self, changed: str) -> None:
        for request, held in self.model.requests.items():
            entry = self.model.entry(request)
            if entry and (held.queue, entry) not in self.entries[request]:
                self.entries[request].append((held.queue, entry))
        if held := self.model.requests.get(changed):
            self._remember_state(changed, held)

    def _remember_state(self, request: str, held: Held) -> None:
        if (held.owner, held.epoch) not in self.epochs[request]:
            self.epochs[request].append((held.owner, held.epoch))
        self.past[request].append(copy.deepcopy(held))

    def _origin(self, request: str) -> Origin:
        charge = CHARGES[request]
        return Origin(
            body=b"\xff body",
            tenant=charge.tenant,
            tier=0,
            seed=1,
            gateway="g.1",
            traceparent=None,
            cost=charge.cost,
            weight=charge.weight,
        )

    @rule(
        request=requests,
        tier=st.sampled_from(TIERS),
        gateway=gateways,
        limit=st.integers(0, 4),
        share=st.sampled_from([0.2, 1.0, UNSHARED]),
    )
    def enqueue_request(self, request: str, tier: str, gateway: str, limit: int, share: float) -> None:
        self._enqueue(request, tier, gateway, limit, share)

    @precondition(lambda self: len(self.model.requests) < len(REQUESTS))
    @rule(tier=st.sampled_from(TIERS), gateway=gateways)
    def refuse_request(self, tier: str, gateway: str) -> None:
        """One that Redis does not know finds no place."""
        unknown = next(request for request in REQUESTS if request not in self.model.requests)
        self._enqueue(unknown, tier, gateway, limit=0)

    def _enqueue(self, request: str, tier: str, gateway: str, limit: int = 3, share: float = UNSHARED) -> None:
        charge = CHARGES[request]
        ahead = sum(self.model.tiers[above].tokens for above in TIERS if above <= tier)
        found = self._call(room(self.keys, tier=int(tier), tenant=charge.tenant, limit=limit, share=share))
        assert found == Room(self.model.tiers[tier].room(charge.tenant, limit, share), ahead)
        digest = prompt_digest(request).hex()
        real = self._call(
            enqueue(
                self.keys,
                request=request,
                origin=Origin(
                    body=b"\xff body",
                    tenant=charge.tenant,
                    tier=int(tier),
                    seed=1,
                    gateway=gateway,
                    traceparent=None,
                    cost=charge.cost,
                    weight=charge.weight,
                ),
                position=PROMPT,
                digest=digest,
                limit=limit,
                share=share,
            ),
        )
        assert real == self.model.enqueue(request, tier, charge, limit, share, PROMPT, digest, gateway)
        self._remember(request)

    @rule(request=requests, verifier=verifiers, data=st.data())
    def claim_from_queue(self, request: str, verifier: str, data: st.DataObject) -> None:
        queue, entry = data.draw(st.sampled_from(self.entries[request] or [(RELEASED, "")]))
        self._claim(request, verifier, "", "0", queue, entry)

    @rule(request=requests, verifier=verifiers, data=st.data())
    def claim_from_owner(self, request: str, verifier: str, data: st.DataObject) -> None:
        owner, epoch = data.draw(st.sampled_from(self.epochs[request][::-1]))
        self._claim(request, verifier, owner, epoch, RELEASED, "")

    @rule(request=requests, verifier=verifiers)
    def take_over(self, request: str, verifier: str) -> None:
        if (held := self.model.requests.get(request)) and held.owner:
            self._claim(request, verifier, held.owner, held.epoch, RELEASED, "")

    @rule(request=requests)
    def crash(self, request: str) -> None:
        """The owner dies, the other verifier takes over."""
        if (held := self.model.requests.get(request)) and held.owner:
            self._set_live(held.owner, False)
            other = VERIFIERS[held.owner == VERIFIERS[0]]
            self._claim(request, other, held.owner, held.epoch, RELEASED, "")

    @rule(request=requests, gateway=gateways)
    def begin_request(self, request: str, gateway: str) -> None:
        """A request that is new or forgotten is queued and claimed."""
        if request not in self.model.requests:
            self._enqueue(request, TIERS[0], gateway)
            for queue, entry in self.entries[request][-1:]:
                self._claim(request, VERIFIERS[0], "", "0", queue, entry)

    def _claim(
        self, request: str, verifier: str, owner: str, expected: str, queue: str, entry: str, epoch: str = ""
    ) -> None:
        self.serial += 1
        epoch = epoch or f"e{self.serial}"
        real = self._call(
            claim(
                self.keys,
                request=request,
                verifier=verifier,
                expected_owner=owner,
                expected_epoch=expected,
                epoch=epoch,
                entry_id=entry,
                stream=self._queue(queue),
            ),
        )
        assert real.status == self.model.claim(request, verifier, owner, expected, epoch, queue, entry)
        held = self.model.requests.get(request)
        if held is not None and real.status == "OK":
            assert (real.position, real.digest, real.body) == (held.position, held.digest, b"\xff body")
            assert [(entry.end, entry.tokens) for entry in real.journal] == held.journal
            assert (real.crash_claims, real.gateway) == (held.crash_claims, held.gateway)
            assert (real.first_token_ms is not None) == held.has_first_token
        self._remember(request)

    @rule(verifier=verifiers, lives=st.booleans())
    def live_or_die(self, verifier: str, lives: bool) -> None:
        self._set_live(verifier, lives)

    def _set_live(self, verifier: str, lives: bool) -> None:
        key = self.keys.heartbeat("verifier", verifier)
        if lives:
            self.client.set(key, b"", px=60 * HEARTBEAT_TTL_MS)
            self.model.live.add(verifier)
        else:
            self.client.delete(key)
            self.model.live.discard(verifier)

    @rule(request=requests, tokens=token_lists, finish=seldom, lie=st.integers(0, 9), data=st.data())
    def commit_row(self, request: str, tokens: list[int], finish: bool, lie: int, data: st.DataObject) -> None:
        """An honest row in most cases, else one with an old epoch, another place or another digest."""
        held = self.model.requests.get(request) or Held("0", "0", PROMPT, prompt_digest(request).hex(), "", PROMPT)
        tokens = tokens if finish else tokens or [0]
        start, digest, epoch = held.position, bytes.fromhex(held.digest), held.epoch
        if lie == 0:
            epoch = data.draw(st.sampled_from(self.epochs[request]))[1]
        if lie == 1:
            start = max(0, start + data.draw(st.integers(-2, 2)))
        if lie == 2:
            digest = chain.extend(digest, [9])
        end_digest = chain.extend(digest, tokens)
        self._commit(
            [
                CommitRow(
                    request=request,
                    epoch=epoch,
                    start=start,
                    start_digest=digest.hex(),
                    end=start + len(tokens),
                    end_digest=end_digest.hex(),
                    tokens=packed(tokens),
                    event=self._next(),
                    finish="stop" if finish or not tokens else "",
                )
            ]
        )

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        self._commit(data.draw(st.lists(st.sampled_from(self.rows[::-1]), min_size=1, max_size=3)))

    def _commit(self, rows: list[CommitRow]) -> None:
        real = self._call(commit(self.keys, verifier=self._owner_of(rows), rows=rows))
        assert list(real.results) == [self.model.commit(row) for row in rows]
        self.rows += rows
        for row in rows:
            self._remember(row.request)

    def _owner_of(self, rows: list[CommitRow]) -> str:
        held = self.model.requests.get(rows[0].request)
        return held.owner if held is not None and held.owner else VERIFIERS[0]

    @rule(request=requests, data=st.data())
    def give_back(self, request: str, data: st.DataObject) -> None:
        owner, epoch = data.draw(st.sampled_from(self.epochs[request][::-1]))
        real = self._call(release(self.keys, request=request, verifier=owner or VERIFIERS[0], epoch=epoch))
        assert real == self.model.release(request, epoch)
        self._remember(request)

    @rule(
        request=requests,
        status=st.sampled_from(Terminal),
        really=seldom,
        connection=st.none() | st.tuples(gateways, numbers),
        is_current=st.booleans(),
        only_overdue=st.booleans(),
    )
    def end(
        self,
        request: str,
        status: Terminal,
        really: bool,
        connection: tuple[str, int] | None,
        is_current: bool,
        only_overdue: bool,
    ) -> None:
        held = self.model.requests.get(request)
        if held is not None and connection is not None and is_current:
            connection = (held.gateway, held.attachment)
        if not really and connection is None and not only_overdue and held is not None and not held.has_ended:
            return
        event = self._next()
        real = self._call(
            cancel(
                self.keys,
                request=request,
                event=event,
                status=status,
                connection=connection,
                only_overdue=only_overdue,
            )
        )
        assert real == self.model.cancel(request, status, event, connection, only_overdue)
        self._remember(request)

    @rule(request=requests, gateway=gateways, number=numbers, is_over=st.booleans(), is_current=st.booleans())
    def go_away(self, request: str, gateway: str, number: int, is_over: bool, is_current: bool) -> None:
        if (held := self.model.requests.get(request)) and is_current:
            gateway, number = held.gateway or gateway, held.attachment
        grace_ms = 0 if is_over else 60_000
        real = self._call(leave(self.keys, request=request, gateway=gateway, attachment=number, grace_ms=grace_ms))
        assert real == self.model.leave(request, gateway, number, is_over)

    @rule(request=requests, gateway=gateways, position=st.integers(0, 6), number=numbers)
    def read_journal(self, request: str, gateway: str, position: int, number: int) -> None:
        event = self._next()
        real = self._call(
            attach(
                self.keys,
                request=request,
                gateway=gateway,
                position=position,
                detached=event,
                attachment=number,
            ),
        )
        journal = [(entry.end, entry.tokens) for entry in real.journal]
        assert (real.status, journal) == self.model.attach(request, gateway, position, event, number)
        if request in self.model.requests and real.status != "DETACHED":
            assert real.terminal == self.model.requests[request].terminal

    @rule(request=requests, really=seldom)
    def forget_request(self, request: str, really: bool) -> None:
        """Redis comes back from an older state, one without this request."""
        if not really:
            return
        held = self.model.requests.pop(request, None)
        if held is not None:
            self.model.abandoned.pop(request, None)
            self.client.zrem(self.keys.abandoned, request)
            self._forget_place(request, held)
            self.client.delete(self.keys.request(request), self.keys.journal(request))
            for verifier, owned in self.model.owned.items():
                owned.discard(request)
                self.client.srem(self.keys.owned(verifier), request)

    def _forget_place(self, request: str, held: Held) -> None:
        """A cancel that nobody hears takes it out of its queue; what else that did is forgotten with the hash."""
        if held.status == "queued":
            self.client.hset(self.keys.request(request), "gateway", "")
            call(self.client, cancel(self.keys, request=request, event=b""))
            self.model.count(held)
            self.model.unqueue(request)

    @rule(request=requests)
    def forget_journal(self, request: str) -> None:
        if held := self.model.requests.get(request):
            self.client.delete(self.keys.journal(request))
            held.journal = []

    @rule(request=requests, data=st.data())
    def forget_commits(self, request: str, data: st.DataObject) -> None:
        """Redis comes back from an older state, one without the last commits; the owner commits on."""
        held = self.model.requests.get(request)
        past = [
            old
            for old in self.past[request]
            if held is not None
            and not held.has_ended
            and (old.owner, old.epoch, old.status) == (held.owner, held.epoch, held.status)
            and PROMPT < old.position < held.position
            and old.journal
        ]
        if held is None or not past:
            return
        old = data.draw(st.sampled_from(past))
        row = CommitRow(
            request=request,
            epoch=held.epoch,
            start=held.position,
            start_digest=held.digest,
            end=held.position + 1,
            end_digest=chain.extend(bytes.fromhex(held.digest), [0]).hex(),
            tokens=packed([0]),
            event=self._next(),
        )
        held.position, held.digest, held.journal = old.position, old.digest, list(old.journal)
        self.client.hset(self.keys.request(request), mapping={"position": old.position, "digest": old.digest})
        self.client.delete(self.keys.journal(request))
        for end, tokens in old.journal:
            self.client.xadd(self.keys.journal(request), {"tokens": tokens}, id=f"{end}-0")
        self._commit([row])

    @rule(
        request=requests, tokens=token_lists, as_owner=st.booleans(), stale=st.booleans(), conflict=st.booleans()
    )
    def restore(self, request: str, tokens: list[int], as_owner: bool, stale: bool, conflict: bool) -> None:
        held = self.model.requests.get(request)
        owner, owner_epoch, epoch = "", "", ""
        if as_owner:
            owner, owner_epoch = self.epochs[request][0 if stale else -1]
            self.serial += 1
            epoch = f"e{self.serial}" if owner else ""
        contradiction = Contradiction(held.position, held.digest) if conflict and held is not None else None
        position = PROMPT + len(tokens)
        digest = chain.extend(prompt_digest(request), tokens).hex()
        real = self._call(
            reseed(
                self.keys,
                request=request,
                origin=self._origin(request),
                start=PROMPT,
                position=position,
                digest=digest,
                tokens=packed(tokens),
                owner=owner,
                owner_epoch=owner_epoch,
                epoch=epoch,
                contradiction=contradiction,
            ),
        )
        fresh = Held(RELEASED, "0", position, digest, "g.1", position, num_prompt=PROMPT)
        assert real.status == self.model.reseed(
            request,
            fresh,
            PROMPT,
            packed(tokens),
            owner,
            owner_epoch,
            epoch,
            contradiction,
            CHARGES[request],
        )
        after = self.model.requests[request]
        assert (real.position, real.digest) == (after.position, after.digest)
        self._remember(request)

    def teardown(self) -> None:
        """Each request was counted when it ended, once, with the tokens that Redis then held."""
        used = usage_of(self.client, self.keys)
        assert total(used.values()) == self.model.usage

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        held = [self._expected(request) for request in REQUESTS]
        queued = [self.model.stream(queue) for queue in QUEUES]
        owned = [self.model.owned.get(verifier, set()) for verifier in VERIFIERS]
        events = [self.model.events.get(gateway, []) for gateway in GATEWAYS]
        assert self._found() == (held, queued, owned, events)
        assert {member.decode() for member in self.client.zrange(self.keys.abandoned, 0, -1)} == set(
            self.model.abandoned
        )

    @invariant()
    def waiting_lists_are_those_of_the_model(self) -> None:
        for tier, queue in self.model.tiers.items():
            number = int(tier)
            waiting = {
                name.decode(): tag
                for name, tag in self.client.zrange(self.keys.waiting(number), 0, -1, withscores=True)
            }
            tags = {name.decode(): float(tag) for name, tag in self.client.hgetall(self.keys.tags(number)).items()}
            backlog = {
                name.decode(): int(count) for name, count in self.client.hgetall(self.keys.backlog(number)).items()
            }
            finish = {f"finish:{tenant}": end for tenant, end in queue.finish.items()}
            held = {f"requests:{tenant}": count for tenant, count in queue.held.items()}
            assert waiting == queue.waiting
            assert {"virtual": 0.0, **tags} == {"virtual": queue.virtual, **finish}
            assert backlog == ({"tokens": queue.tokens, **held} if len(queue) else {})

    @invariant()
    def no_unfinished_request_is_lost(self) -> None:
        """It is owned by one verifier or waits in one queue, never neither and never both."""
        for request, held in self.model.requests.items():
            waiting = [queue for queue in QUEUES if request in self.model.stream(queue).values()]
            waiting += [tier for tier in TIERS if request in self.model.tiers[tier].waiting]
            owners = [verifier for verifier, owned in self.model.owned.items() if request in owned]
            assert len(owners) + len(waiting) == (0 if held.has_ended else 1)

    def _found(self) -> tuple[list[Any], list[dict[str, str]], list[set[str]], list[list[bytes]]]:
        """What Redis holds, read in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for request in REQUESTS:
            pipeline.hmget(self.keys.request(request), HASH_FIELDS)
            pipeline.xrange(self.keys.journal(request))
        for stream in [self._queue(queue) for queue in QUEUES] + [self.keys.tokens(g) for g in GATEWAYS]:
            pipeline.xrange(stream)
        for verifier in VERIFIERS:
            pipeline.smembers(self.keys.owned(verifier))
        replies: list[Any] = pipeline.execute()
        held, replies = replies[: 2 * len(REQUESTS)], replies[2 * len(REQUESTS) :]
        queues, published = replies[: len(QUEUES)], replies[len(QUEUES) : -len(VERIFIERS)]
        return (
            [
                (
                    [None if value is None else value.decode() for value in fields],
                    [(entry, f[b"tokens"]) for entry, f in journal],
                )
                for fields, journal in zip(held[::2], held[1::2], strict=True)
            ],
            [{entry.decode(): fields[b"body"].decode() for entry, fields in queue} for queue in queues],
            [{member.decode() for member in members} for members in replies[-len(VERIFIERS) :]],
            [[fields[b"body"] for _, fields in stream] for stream in published],
        )

    def _expected(self, request: str) -> tuple[list[str | None], list[tuple[bytes, bytes]]]:
        held = self.model.requests.get(request)
        if held is None:
            return [None] * len(HASH_FIELDS), []
        return (
            [str(getattr(held, name)) for name in HASH_FIELDS],
            [(f"{end}-0".encode(), tokens) for end, tokens in held.journal],
        )
