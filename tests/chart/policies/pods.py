"""What a pod may do: Pod Security *restricted*, and no more than it needs besides."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chart.renders import Container, Pod, Render

OWN_USER = 10001  # of our four images; others' may have their own, above 0
TALKS_TO_THE_API = "ADASERVE_POD_DELETION_COST"  # the one option for which a pod needs a token


def _context(pod: Pod, container: Container, field: str) -> object:
    """A field of the container's security context, else of the pod's."""
    own = container.spec.get("securityContext") or {}
    return own.get(field, (pod.spec.get("securityContext") or {}).get(field))


def _all(render: Render) -> Iterator[tuple[Pod, Container]]:
    return ((pod, container) for pod in render.pods() for container in pod.containers())


def runs_as_nobody_special(render: Render) -> list[str]:
    """Not root, and by a number: an image's user by name cannot be checked when the pod starts."""
    found = []
    for pod, container in _all(render):
        user = _context(pod, container, "runAsUser")
        if _context(pod, container, "runAsNonRoot") is not True:
            found.append(f"{container.where}: runAsNonRoot is not true")
        if not isinstance(user, int) or user <= 0:
            found.append(f"{container.where}: runAsUser is {user!r}, not a number above 0")
    return found


def writes_nowhere_but_where_it_may(render: Render) -> list[str]:
    return [
        f"{container.where}: readOnlyRootFilesystem is not true"
        for _, container in _all(render)
        if (container.spec.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True
    ]


def gains_no_privilege(render: Render) -> list[str]:
    found = []
    for _, container in _all(render):
        context = container.spec.get("securityContext") or {}
        if context.get("allowPrivilegeEscalation") is not False:
            found.append(f"{container.where}: allowPrivilegeEscalation is not false")
        if context.get("privileged"):
            found.append(f"{container.where}: privileged")
    return found


def has_no_capabilities(render: Render) -> list[str]:
    found = []
    for _, container in _all(render):
        capabilities = (container.spec.get("securityContext") or {}).get("capabilities") or {}
        if capabilities.get("drop") != ["ALL"]:
            found.append(f"{container.where}: capabilities.drop is {capabilities.get('drop')}, not [ALL]")
        if capabilities.get("add"):
            found.append(f"{container.where}: capabilities.add {capabilities['add']}")
    return found


def is_confined_by_seccomp(render: Render) -> list[str]:
    found = []
    for pod, container in _all(render):
        profile = _context(pod, container, "seccompProfile")
        if not isinstance(profile, dict) or profile.get("type") != "RuntimeDefault":
            found.append(f"{container.where}: seccompProfile is {profile}, not RuntimeDefault")
    return found


def stays_off_the_host(render: Render) -> list[str]:
    """No namespace, port or directory of the node."""
    found = []
    for pod in render.pods():
        found += [
            f"{pod.where}: {field}" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(field)
        ]
        found += [f"{pod.where}: hostPath {v['name']}" for v in pod.spec.get("volumes") or [] if "hostPath" in v]
        for container in pod.containers():
            found += [f"{container.where}: hostPort" for p in container.spec.get("ports") or [] if "hostPort" in p]
    return found


def is_told_of_no_neighbours(render: Render) -> list[str]:
    """Service links put every Service of the namespace into the environment, where ADASERVE_* stops a start."""
    return [f"{p.where}: enableServiceLinks is not false" for p in render.pods() if _links(p)]


def _links(pod: Pod) -> bool:
    return pod.spec.get("enableServiceLinks") is not False


def holds_no_token(render: Render) -> list[str]:
    """No token of the API server, but for the verifier where it tells what deleting it costs."""
    found = []
    for pod in render.pods():
        mounted = pod.spec.get("automountServiceAccountToken") is not False
        if mounted and not any(TALKS_TO_THE_API in container.env for container in pod.containers()):
            found.append(f"{pod.where}: automountServiceAccountToken is not false")
    return found


def accounts_mount_no_token(render: Render) -> list[str]:
    """Also an account says so: a pod that somebody adds under it gets none."""
    return [
        f"ServiceAccount/{account['metadata']['name']}: automountServiceAccountToken is not false"
        for account in render.of_kind("ServiceAccount")
        if account.get("automountServiceAccountToken") is not False
    ]


def may_do_little_in_the_api(render: Render) -> list[str]:
    """No cluster roles; nothing but marking pods: no reading, no star, no secret."""
    found = [f"{d['kind']}/{d['metadata']['name']}" for d in render.of_kind("ClusterRole", "ClusterRoleBinding")]
    for role in render.of_kind("Role"):
        for rule in role["rules"]:
            extra = {*rule["verbs"]} - {"patch"} | {*rule["resources"]} - {"pods"}
            found += [f"Role/{role['metadata']['name']}: {word}" for word in sorted(extra)]
    return found


def names_each_once(render: Render) -> list[str]:
    """Containers, ports and volumes of a pod, and paths of a container: the API server refuses two of one name."""
    found = []
    for pod in render.pods():
        containers = list(pod.containers())
        ports = [port for container in containers for port in container.spec.get("ports") or []]
        named = [f"container {container.spec['name']}" for container in containers]
        named += [f"port {port['name']}" for port in ports if "name" in port]
        named += [f"volume {volume['name']}" for volume in pod.spec.get("volumes") or []]
        for container in containers:
            named += [
                f"{container.spec['name']}'s {mount['mountPath']}"
                for mount in container.spec.get("volumeMounts") or []
            ]
        found += [f"{pod.where}: two of {name}" for name in sorted(set(named)) if named.count(name) > 1]
    return found


POLICIES = (
    runs_as_nobody_special,
    writes_nowhere_but_where_it_may,
    gains_no_privilege,
    has_no_capabilities,
    is_confined_by_seccomp,
    stays_off_the_host,
    is_told_of_no_neighbours,
    holds_no_token,
    accounts_mount_no_token,
    may_do_little_in_the_api,
    names_each_once,
)
