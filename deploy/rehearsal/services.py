"""Services: who is behind a name, and a TCP proxy in front of them, both a little late as kube-proxy is."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence

from deploy.rehearsal.manifests import Document, selects
from deploy.rehearsal.network import Network
from deploy.rehearsal.pod import Pod
from deploy.rehearsal.probes import port_number

LOOK_S = 0.05
CHUNK = 1 << 16

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """One Service; unless headless it listens on all of its ports. ``late_s`` is how long news take."""

    def __init__(
        self, document: Document, network: Network, pods: Callable[[], Sequence[Pod]], late_s: float
    ) -> None:
        self.name = str(document["metadata"]["name"])
        self.ip = ""
        self.num_open = 0
        self._spec = document["spec"]
        self._network, self._pods, self._late_s = network, pods, late_s
        self._endpoints: list[Pod] = []
        self._servers: list[asyncio.Server] = []
        self._late: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Its first one."""
        return int(self._spec["ports"][0]["port"])

    def target(self, port: int) -> int | str | None:
        """What one of its ports leads to; None where it has no such port."""
        targets = {int(one["port"]): one.get("targetPort", one["port"]) for one in self._spec["ports"]}
        return targets.get(port)

    def selects(self, pod: Pod) -> bool:
        return selects(self._spec.get("selector") or {}, pod.identity.labels)

    @property
    def is_headless(self) -> bool:
        return bool(self._spec.get("clusterIP") == "None")

    async def start(self) -> None:
        """Listens from now on."""
        if self.is_headless:
            return
        self.ip = await self._network.new_service_ip(self.name)
        for one in self._spec["ports"]:
            target = one.get("targetPort", one["port"])
            self._servers.append(
                await asyncio.start_server(self._handler(target), self.ip, int(one["port"]), limit=CHUNK)
            )

    async def follow(self) -> None:
        """Watches the pods; until cancelled."""
        seen: list[Pod] = []
        while True:
            now = [pod for pod in self._pods() if self._is_behind(pod)]
            if now != seen:
                seen = now
                task = asyncio.create_task(self._take(now))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            await asyncio.sleep(LOOK_S)

    def _is_behind(self, pod: Pod) -> bool:
        return self.selects(pod) and (pod.is_ready or bool(self._spec.get("publishNotReadyAddresses")))

    async def _take(self, endpoints: list[Pod]) -> None:
        await asyncio.sleep(self._late_s)
        self._endpoints = endpoints
        if self.is_headless:
            self._network.name(self.name, endpoints[0].identity.ip if endpoints else None)

    def _handler(self, target: int | str) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.num_open += 1
            try:
                await self._connect(target, reader, writer)
            except asyncio.CancelledError:  # the rehearsal is over; nobody is left to hear of it
                writer.transport.abort()
            finally:
                self.num_open -= 1
                writer.close()

        return handle

    async def _connect(
        self, target: int | str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Any endpoint, for as long as the connection lives; a refused one is reset, as nobody listening is."""
        try:
            pod = random.choice(self._endpoints)  # noqa: S311 - whom to ask is no secret
            theirs, ours = await asyncio.open_connection(
                pod.identity.ip, port_number(target, pod.ports), limit=CHUNK
            )
        except (IndexError, OSError):
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, ours), _pump(theirs, writer))
        except OSError:
            writer.transport.abort()
        finally:
            ours.close()

    async def stop(self) -> None:
        for server in self._servers:
            server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
