"""A release on the node: all workloads and Services of a render, running."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from pathlib import Path

from deploy.rehearsal.api_server import ACCOUNT, ApiServer
from deploy.rehearsal.edges import Edges
from deploy.rehearsal.environment import Identity
from deploy.rehearsal.manifests import WORKLOADS, Document, Render, component
from deploy.rehearsal.network import NODE_IP, Network
from deploy.rehearsal.pod import Pod
from deploy.rehearsal.sandbox import Mount
from deploy.rehearsal.services import Service
from deploy.rehearsal.setups import Given, Setups
from deploy.rehearsal.substitutions import check
from deploy.rehearsal.volumes import Volumes
from deploy.rehearsal.workloads import Workload


class Release:
    """``notes`` is what an operator would have to look into: restarts, failed hooks, kills."""

    def __init__(self, render: Render, folder: Path, *, late_s: float) -> None:
        check(render)
        self.render = render
        self.notes: list[str] = []
        self._folder = folder
        self._network = Network(folder / "hosts", render.namespace)
        self.workloads = [
            Workload(document, self._new_pod, self.notes.append) for document in render.of_kind(*WORKLOADS)
        ]
        self.services = [
            Service(document, self._network, self._pods, late_s) for document in render.of_kind("Service")
        ]
        self.api = ApiServer(render, folder / "api", self._pods)
        self._cache = folder / "cache"
        self._cache.mkdir()
        self._cache.chmod(0o777)
        self.edges = Edges(render, self._pods, self.services)
        self._tasks: list[asyncio.Task[None]] = []

    def _pods(self) -> list[Pod]:
        return [pod for workload in self.workloads for pod in workload.pods]

    @property
    def retired(self) -> list[Pod]:
        """Every pod that has ended."""
        return [pod for workload in self.workloads for pod in workload.retired]

    def workload(self, name: str) -> Workload:
        """By its component: gateway, drafter, selector, verifier. Raises ValueError where there is none."""
        (found,) = (workload for workload in self.workloads if component(workload.document) == name)
        return found

    def service(self, name: str) -> Service:
        """The one that has a cluster IP, by its pods' component."""
        labels = self.workload(name).document["spec"]["template"]["metadata"]["labels"]
        named = {document["metadata"]["name"]: document["spec"] for document in self.render.of_kind("Service")}
        (found,) = (
            service
            for service in self.services
            if not service.is_headless and named[service.name].get("selector", {}).items() <= labels.items()
        )
        return found

    async def install(self) -> None:
        """Until every workload is as rendered. Raises RehearsalError."""
        await self._network.start()
        await self.api.start(self._network)
        for service in self.services:
            await service.start()
            self._tasks.append(asyncio.create_task(service.follow()))
        self._tasks.append(asyncio.create_task(self.edges.watch()))
        await asyncio.gather(*(workload.settle() for workload in self.workloads))

    async def uninstall(self) -> None:
        """All services of AdaServe, then what they need; each within its grace period."""
        stateful = [one for one in self.workloads if one.document["kind"] == "StatefulSet"]
        await asyncio.gather(*(one.end() for one in self.workloads if one not in stateful))
        await asyncio.gather(*(one.end() for one in stateful))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for service in self.services:
            await service.stop()

    def _new_pod(self, workload: Document, name: str) -> Pod:
        template = workload["spec"]["template"]
        spec = _with_claims(workload, name)
        identity = Identity(
            name=name,
            namespace=self.render.namespace,
            uid=str(uuid.uuid4()),
            ip=self._network.new_pod_ip(),
            labels=template["metadata"].get("labels", {}),
            annotations=template["metadata"].get("annotations", {}),
            service_account=spec.get("serviceAccountName", "default"),
            node_ip=NODE_IP,
        )
        folder = self._new_folder(name)
        (folder / "roots").mkdir(parents=True)
        volumes = Volumes(folder / "volumes", self._folder / "claims", self.render, identity, spec)
        for volume in spec.get("volumes", ()):
            volumes.make(volume)
        setups = Setups(spec, identity, self.render, folder, self._given(spec, identity), volumes)
        return Pod(identity, spec, self._network, setups, self.notes.append, volumes.remove)

    def _new_folder(self, pod: str) -> Path:
        """A StatefulSet's pod comes back by its name, and its predecessor's folder stays to be looked into."""
        first = self._folder / "pods" / pod
        later = (first.with_name(f"{pod}.{number}") for number in itertools.count(1))
        return next(folder for folder in itertools.chain([first], later) if not folder.exists())

    def _given(self, spec: Document, identity: Identity) -> Given:
        """What the kubelet adds to each container."""
        mounts = [Mount(self._network.hosts, "/etc/hosts", True)]
        if spec.get("automountServiceAccountToken", True):
            mounts.append(Mount(self.api.account(identity.service_account), ACCOUNT, True))
        return Given(mounts, {"HOSTNAME": identity.name, **self.api.environment}, self._cache)


def _with_claims(workload: Document, pod: str) -> Document:
    """The pod's spec, with the claims of a StatefulSet's templates as volumes."""
    spec = workload["spec"]["template"]["spec"]
    claims = [
        {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": f"{claim['metadata']['name']}-{pod}"},
        }
        for claim in workload["spec"].get("volumeClaimTemplates", ())
    ]
    return {**spec, "volumes": [*spec.get("volumes", ()), *claims]}
