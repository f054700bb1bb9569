"""Pods that may do more than they need."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plant, Plants, container, document, in_pod, pod
from tests.chart.policies import pods as policies
from tests.chart.renders import Render


def security(field: str, value: object) -> Plant:
    """A field of the verifier's security context; None takes it away."""

    def plant(render: Render) -> None:
        context = container(render)["securityContext"]
        context.pop(field) if value is None else context.update({field: value})

    return plant


def role(verb: str, resource: str) -> Plant:
    rule = {"apiGroups": [""], "resources": [resource], "verbs": [verb]}
    made = {"kind": "Role", "metadata": {"name": "x"}, "rules": [rule]}
    return lambda render: render.documents.append(made)


def node_files(render: Render) -> None:
    pod(render).spec["volumes"].append({"name": "node", "hostPath": {"path": "/"}})


def twin(of: str) -> Plant:
    """The first of a pod's containers or volumes, once more."""
    return lambda render: pod(render).spec[of].append(pod(render).spec[of][0])


def twin_in_container(of: str) -> Plant:
    return lambda render: container(render)[of].append(container(render)[of][0])


PLANTS: Plants = [
    (policies.runs_as_nobody_special, security("runAsNonRoot", False)),
    (policies.runs_as_nobody_special, security("runAsUser", 0)),
    (policies.writes_nowhere_but_where_it_may, security("readOnlyRootFilesystem", None)),
    (policies.gains_no_privilege, security("allowPrivilegeEscalation", None)),
    (policies.gains_no_privilege, security("privileged", True)),
    (policies.has_no_capabilities, security("capabilities", None)),
    (policies.has_no_capabilities, security("capabilities", {"drop": ["ALL"], "add": ["SYS_PTRACE"]})),
    (policies.is_confined_by_seccomp, security("seccompProfile", {"type": "Unconfined"})),
    (policies.stays_off_the_host, in_pod(hostNetwork=True)),
    (policies.stays_off_the_host, node_files),
    (policies.is_told_of_no_neighbours, in_pod(enableServiceLinks=True)),
    (policies.holds_no_token, in_pod("gateway", automountServiceAccountToken=True)),
    (
        policies.accounts_mount_no_token,
        lambda r: document(r, "ServiceAccount").pop("automountServiceAccountToken"),
    ),
    (policies.may_do_little_in_the_api, role("get", "secrets")),
    (policies.may_do_little_in_the_api, role("*", "pods")),
    (policies.names_each_once, twin("containers")),
    (policies.names_each_once, twin("volumes")),
    (policies.names_each_once, twin_in_container("ports")),
    (policies.names_each_once, twin_in_container("volumeMounts")),
]
