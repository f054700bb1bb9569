"""The node's network: a bridge that pods hang on, an address for each pod and Service, and their names.

All of it is in the network namespace that this process runs in (`node`), and gone with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

BRIDGE = "pods"
BRIDGE_MAC = "02:00:0a:4d:00:01"  # a bridge without one has its least port's, and another when that pod goes
NETWORK = ipaddress.ip_network("10.77.0.0/16")
NODE_IP = str(NETWORK[1])
FIRST_POD, FIRST_SERVICE = 256, 255 * 256 + 1  # 10.77.1.0 and 10.77.255.1 on


class Network:
    """Addresses and names. ``hosts`` stands for the cluster's DNS: a file that is /etc/hosts of every pod."""

    def __init__(self, hosts: Path, namespace: str) -> None:
        self.hosts = hosts
        self._namespace = namespace
        self._pods = itertools.count(FIRST_POD)
        self._services = itertools.count(FIRST_SERVICE)
        self._links = itertools.count()
        self._names: dict[tuple[str, str], str] = {}  # by Service and namespace

    async def start(self) -> None:
        """The bridge, and loopback."""
        await run("ip", "link", "set", "lo", "up")
        await run("ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        await run("ip", "addr", "add", f"{NODE_IP}/{NETWORK.prefixlen}", "dev", BRIDGE)
        await run("ip", "link", "set", BRIDGE, "up")
        self._write()

    def new_pod_ip(self) -> str:
        return str(NETWORK[next(self._pods)])

    async def new_service_ip(self, service: str, namespace: str | None = None) -> str:
        """An address that this process can listen on, known by the Service's names."""
        address = str(NETWORK[next(self._services)])
        await run("ip", "addr", "add", f"{address}/32", "dev", BRIDGE)
        self.name(service, address, namespace)
        return address

    def name(self, service: str, address: str | None, namespace: str | None = None) -> None:
        """What a Service's names resolve to from now on; None: to nothing."""
        key = service, namespace or self._namespace
        if address is None:
            self._names.pop(key, None)
        else:
            self._names[key] = address
        self._write()

    async def join(self, pause_pid: int, address: str) -> None:
        """Give the network namespace of a pod an interface with this address."""
        link = f"pod{next(self._links)}"
        await run(
            *("ip", "link", "add", link, "master", BRIDGE, "type", "veth"),
            *("peer", "name", "eth0", "netns", str(pause_pid)),
        )
        await run("ip", "link", "set", link, "up")
        inside = ("nsenter", "-t", str(pause_pid), "-n", "ip")
        await run(*inside, "link", "set", "lo", "up")
        await run(*inside, "addr", "add", f"{address}/{NETWORK.prefixlen}", "dev", "eth0")
        await run(*inside, "link", "set", "eth0", "up")

    def lines(self) -> list[str]:
        """Of the file."""
        return ["127.0.0.1 localhost", *hosts_lines(self._names)]

    def _write(self) -> None:
        with self.hosts.open("r+" if self.hosts.exists() else "w", encoding="utf-8") as file:
            # In place: pods have this very file mounted.
            file.write("\n".join(self.lines()) + "\n")
            file.truncate()


def hosts_lines(names: Mapping[tuple[str, str], str]) -> list[str]:
    """All forms of a name that the cluster's DNS knows."""
    lines = []
    for (name, namespace), address in sorted(names.items()):
        forms = [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]
        lines.append(f"{address} {' '.join(forms)}")
    return lines


async def run(*command: str) -> None:
    """Raises RuntimeError with what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {output.decode().strip()}")


def children(processes: Mapping[int, Sequence[str]], parent: int) -> list[int]:
    """Pids whose ``stat`` fields name this parent."""
    return [pid for pid, fields in processes.items() if int(fields[1]) == parent]


def running() -> dict[int, list[str]]:
    """Fields of ``/proc/<pid>/stat`` behind the program's name: state, parent, …"""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                found[int(path.name)] = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
    return found
