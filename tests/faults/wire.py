"""Redis as a member of the simulated world sees it: every command may be lost, doubled, or its sender's last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as LostConnection

from tests.faults.dice import Dice, Fate, HintFate
from tests.faults.line import Line, Words

SCRIPT_WEIGHT = 4.0
"""A script changes a request's state: faults there are worth more runs than faults of reads."""


class Crash(BaseException):
    """The member's process is killed here: nothing of it may run any more, so it is no Exception."""


class Member(Protocol):
    """Whose wire it is."""

    may_crash: bool
    may_sleep: bool


class Process(Member, Protocol):
    """A member that can be dead already when its command is due."""

    is_alive: bool


class Surroundings(Protocol):
    """What a wire needs of the world."""

    dice: Dice
    is_cut_off: bool
    line: Line

    def passes(self) -> None: ...

    def crashes(self, member: Member) -> None: ...

    def sleeps(self, member: Member) -> None: ...

    def puts_off(self, commands: Sequence[Words]) -> None: ...

    def waits(self, member: Member, block_ms: float) -> None: ...

    def observe(self, command: Words, reply: Any) -> None: ...

    def send_hint(self, command: Words) -> bool: ...

    def note_expiry(self, key: str, ttl_ms: float) -> None: ...


class Wire(Redis):
    """One member's client on the shared connection."""

    def __init__(self, world: Surroundings, member: Member) -> None:
        vars(self).update(vars(world.line.client))  # building one anew costs more than ten commands
        self.world, self.member = world, member

    def execute_command(self, *args: Any, **options: Any) -> Any:
        command, block_ms = without_block(args)
        reply = self._cross(command, options)
        if not reply and block_ms is not None:
            self.world.waits(self.member, block_ms)
            reply = self._cross(command, options)
        return reply

    def _cross(self, command: Words, options: dict[str, Any]) -> Any:
        fate = depart(self.world, self.member, [command])
        if is_hint(command) and not self.world.send_hint(command):
            reply: Any = b"0-1"
        else:
            reply = self.world.line.run(command, options)
        self.world.observe(command, reply)
        arrive(self.world, self.member, fate)
        return reply

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:
        return WirePipeline(self, transaction)


class WirePipeline(Pipeline):
    """Commands in one write: a cut connection may let the server see the first of them only."""

    def __init__(self, wire: Wire, transaction: bool) -> None:
        super().__init__(wire.connection_pool, wire.response_callbacks, transaction, None)
        self._world, self._member, self._is_transaction = wire.world, wire.member, transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if not self.command_stack:
            return []
        fate = depart(self._world, self._member, [command for command, _ in self.command_stack])
        commands = [self._prepare(position) for position in range(len(self.command_stack))]
        if fate is Fate.UNANSWERED and not self._is_transaction:
            kept = self._world.dice.random.randint(1, len(self.command_stack))
            del self.command_stack[kept:]
        replies = self._run(raise_on_error)
        for command, reply in zip(commands, replies, strict=False):
            self._world.observe(command, reply)
        arrive(self._world, self._member, fate)
        return replies

    def _run(self, raise_on_error: bool) -> list[Any]:
        line, commands = self._world.line, list(self.command_stack)
        self.reset()
        replies = line.transact(commands) if self._is_transaction else line.run_all(commands)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    def _prepare(self, position: int) -> Words:
        command, options = self.command_stack[position]
        if is_hint(command) and not self._world.send_hint(command):
            self.command_stack[position] = (("PING",), options)
        elif command[0] == "SET" and "PX" in command:
            # The world's clock decides when a heartbeat is over, not the server's.
            self._world.note_expiry(str(command[1]), float(command[4]))
            self.command_stack[position] = (command[:3], options)
        words: Words = command
        return words


class AsyncWire:
    """A gateway's client: commands take effect at once, replies take their time, so that others overtake them."""

    def __init__(self, world: Surroundings, member: Process) -> None:
        self._world, self._member = world, member
        self._forever: list[asyncio.Future[None]] = []

    async def execute_command(self, *args: Any) -> Any:
        command, block_ms = without_block(args)
        reply = await self._cross(command)
        deadline = asyncio.get_running_loop().time() + (block_ms or 0.0) / 1000
        while not reply and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
            reply = await self._cross(command)
        return reply

    async def _cross(self, command: Words) -> Any:
        await self._dawdle()
        fate = self._fate(command)
        if fate is Fate.SLEEP_BEFORE:
            self._world.sleeps(self._member)
        if fate is Fate.CRASH_BEFORE or not self._member.is_alive:
            await self._die()
        refuse(self._world, fate, [command])
        reply = self._world.line.run(command, {})
        self._world.observe(command, reply)
        if fate is Fate.SLEEP_AFTER:
            self._world.sleeps(self._member)
        if fate is Fate.CRASH_AFTER:
            await self._die()
        await self._dawdle()
        if fate is Fate.UNANSWERED:
            raise LostConnection("simulated: not answered")
        if command[0] == "XREAD":
            return [(name, tamper(self._world.dice, entries)) for name, entries in reply or ()]
        return reply

    def _fate(self, command: Words) -> Fate:
        member = self._member
        weight = SCRIPT_WEIGHT if command[0] == "FCALL" else 1.0
        return self._world.dice.fate(may_crash=member.may_crash, may_sleep=member.may_sleep, weight=weight)

    async def _die(self) -> None:
        """The process is gone: no task of it ever goes on, not even to clean up."""
        if self._member.is_alive:
            self._world.crashes(self._member)
        never = asyncio.get_running_loop().create_future()
        self._forever.append(never)  # a task that nobody refers to would be collected, and clean up
        await never

    async def _dawdle(self) -> None:
        dice = self._world.dice
        if not dice.is_calm and dice.random.random() < 0.15:
            await asyncio.sleep(dice.random.choice((0.001, 0.01, 0.2)))

    async def aclose(self) -> None:
        """The connection is the world's."""


def depart(world: Surroundings, member: Member, commands: Sequence[Words]) -> Fate:
    """Before commands are sent."""
    world.passes()
    weight = SCRIPT_WEIGHT if any(command[0] == "FCALL" for command in commands) else 1.0
    fate = world.dice.fate(may_crash=member.may_crash, may_sleep=member.may_sleep, weight=weight)
    if fate is Fate.CRASH_BEFORE:
        world.crashes(member)
        raise Crash
    if fate is Fate.SLEEP_BEFORE:
        world.sleeps(member)
    refuse(world, fate, commands)
    return fate


def refuse(world: Surroundings, fate: Fate, commands: Sequence[Words]) -> None:
    """Raises LostConnection where the commands do not run now."""
    if world.is_cut_off:
        raise LostConnection("simulated: not sent")
    if fate is Fate.LATE and commands[0][0] in ("FCALL", "XREADGROUP"):
        world.puts_off(commands)
    if fate in (Fate.LOST, Fate.LATE):
        raise LostConnection("simulated: not sent in time")


def arrive(world: Surroundings, member: Member, fate: Fate) -> None:
    """After its effect."""
    if fate is Fate.CRASH_AFTER:
        world.crashes(member)
        raise Crash
    if fate is Fate.SLEEP_AFTER:
        world.sleeps(member)
    if fate is Fate.UNANSWERED:
        raise LostConnection("simulated: not answered")


def without_block(command: Words) -> tuple[Words, float | None]:
    """The command without its BLOCK, and how long it would have waited."""
    if command[0] not in ("XREAD", "XREADGROUP") or "BLOCK" not in command:
        return command, None
    at = command.index("BLOCK")
    return command[:at] + command[at + 2 :], float(command[at + 1])


def is_hint(command: Words) -> bool:
    """Whether it is the XADD of a message that may be lost."""
    return bool(command) and command[0] == "XADD" and "NOMKSTREAM" in command


def tamper(dice: Dice, entries: Sequence[Any]) -> list[Any]:
    """Entries of a read as a faulty stream would show them: some missing, twice, or swapped."""
    seen: list[Any] = []
    for entry in entries:
        fate = dice.token_fate()
        if fate is HintFate.HELD:
            seen.insert(max(0, len(seen) - 1), entry)
        elif fate is not HintFate.LOST:
            seen += [entry, entry] if fate is HintFate.DOUBLED else [entry]
    return seen
