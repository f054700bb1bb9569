"""The chart as helm takes it: the examples, the committed renders, an install that is upgraded and removed."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import chart
from shared.errors import ConfigurationError
from tests.chart.api_server import ApiServer
from tests.chart.renders import COMPONENT, documents_in

PROGRAM = chart.helm_program()
needs_helm = pytest.mark.skipif(PROGRAM is None, reason="there is no helm here: `make tools` fetches one")

# What an example is there to show.
EXAMPLES = {
    "minimal-cpu",
    "gpu",
    "shared-gpu",
    "tensor-parallel",
    "external-redis",
    "keda",
    "hpa",
    "everything",
} | {
    "multi-cell-blue",
    "multi-cell-green",
}


def test_every_example_has_a_render_and_every_render_an_example() -> None:
    assert set(chart.examples()) == EXAMPLES
    assert {path.stem for path in chart.RENDERS.glob("*.yaml")} == EXAMPLES


def test_the_chart_holds_copies_of_what_is_elsewhere() -> None:
    for original, copy in chart.COPIES.items():
        assert copy.read_text() == original.read_text(), f"{copy.name}: run `make chart`"


def test_the_chart_is_of_the_version_that_the_project_has() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert f'version = "{about["appVersion"]}"' in (chart.ROOT / "pyproject.toml").read_text()


def test_the_renders_were_made_of_the_chart_as_it_is() -> None:
    """Also where there is no helm to render it."""
    remedy = "the renders are old, or were edited: `make tools` and `make chart`, and look at what differs"
    assert chart.changed_since() == [], remedy


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("Chart.yaml", "chart"),
        ("values.yaml", "chart"),
        ("values.schema.json", "chart"),
        ("templates/redis/redis.yaml", "chart"),
        ("templates/added.yaml", "chart"),
        ("files/users.acl", "chart"),
        ("examples/gpu.yaml", "chart"),
        ("examples/added.yaml", "chart"),
        ("renders/gpu.yaml", "gpu.yaml"),
        ("renders/added.yaml", "added.yaml"),
        ("files/rules/tests/drafts.yaml", None),  # promtool's, which no render holds
        ("files/__pycache__/fetch_model.pyc", None),
    ],
)
def test_a_file_that_is_another_is_noticed(
    path: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "chart"
    shutil.copytree(chart.CHART, folder)
    monkeypatch.setattr(chart, "CHART", folder)
    monkeypatch.setattr(chart, "EXAMPLES", folder / "examples")
    monkeypatch.setattr(chart, "RENDERS", folder / "renders")
    (folder / "renders" / chart.DIGESTS).write_text(chart.digests())
    assert chart.changed_since() == []
    (folder / path).parent.mkdir(exist_ok=True)
    with (folder / path).open("a") as file:
        file.write("\n")
    assert chart.changed_since() == ([told] if told else [])


def test_a_file_that_has_moved_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "EXAMPLES", tmp_path)
    (tmp_path / "one.yaml").write_text("cell: one\n")
    before = chart.digests()
    (tmp_path / "one.yaml").rename(tmp_path / "two.yaml")
    assert chart.digests() != before


@needs_helm
@pytest.mark.parametrize("example", sorted(EXAMPLES))
def test_an_example_passes_helms_strict_lint_and_renders_to_what_is_committed(example: str) -> None:
    chart.lint(example)
    is_current = (chart.RENDERS / f"{example}.yaml").read_text() == chart.render(example)
    assert is_current, "run `make chart` and look at what differs"


@needs_helm
def test_lint_refuses_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.yaml").write_text("cell: a b\n")
    monkeypatch.setattr(chart, "EXAMPLES", tmp_path)
    with pytest.raises(ConfigurationError, match="cell"):
        chart.lint("wrong")


@needs_helm
def test_renders_that_are_old_are_named_and_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, written = tmp_path / "examples", tmp_path / "renders"
    for folder in (examples, written):
        folder.mkdir()
    (examples / "mine.yaml").write_text("cell: mine\n")
    (written / "gone.yaml").write_text("")
    monkeypatch.setattr(chart, "EXAMPLES", examples)
    monkeypatch.setattr(chart, "RENDERS", written)
    monkeypatch.setattr("sys.argv", ["chart", "--check"])
    with pytest.raises(SystemExit, match=r"mine, made-of\.sha256, gone"):
        chart.main()
    assert not (written / "mine.yaml").exists()
    monkeypatch.setattr("sys.argv", ["chart"])
    chart.main()
    assert {path.name for path in written.iterdir()} == {"mine.yaml", chart.DIGESTS}
    assert (written / "mine.yaml").read_text().count(chart.PLACEHOLDER) == 7
    monkeypatch.setattr("sys.argv", ["chart", "--check"])
    chart.main()


def test_without_helm_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "helm_program", lambda: None)
    with pytest.raises(ConfigurationError, match="make tools"):
        chart.helm("version")


@needs_helm
def test_the_chart_renders_for_the_newest_version_alike() -> None:
    text = chart.helm("template", "x", str(chart.CHART), "--kube-version", "1.99.0")
    assert {each["kind"] for each in documents_in(text)} >= {"Deployment", "StatefulSet", "NetworkPolicy"}


@needs_helm
def test_helm_refuses_a_version_that_is_too_old() -> None:
    with pytest.raises(ConfigurationError, match=r"1\.27"):
        chart.helm("template", "x", str(chart.CHART), "--kube-version", "1.26.9")


class Release:
    """A release at an API server that keeps objects."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._server = server
        self._place = ("--kubeconfig", str(server.kubeconfig(folder)), "--namespace", "adaserve")
        self._environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}

    def run(self, verb: str, *arguments: str) -> str:
        chart_and_more = (str(chart.CHART), "--disable-openapi-validation") if verb != "uninstall" else ()
        command = [str(PROGRAM), verb, "demo", *chart_and_more, *arguments, *self._place]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def secrets(self) -> dict[str, dict[str, str]]:
        return {name: secret["data"] for name, secret in self._server.named("secrets").items()}


@needs_helm
def test_generated_secrets_are_random_and_outlive_upgrades_and_the_admin_key_an_uninstall(tmp_path: Path) -> None:
    with ApiServer() as server:
        release = Release(server, tmp_path)
        notes = release.run("install")
        first = release.secrets()
        assert set(first) == {"demo-adaserve-auth", "demo-adaserve-redis-auth"}
        values = [base64.b64decode(value) for secret in first.values() for value in secret.values()]
        assert len(values) == len(set(values)) == 7
        assert {len(value) for value in values} == {40}
        assert "get secret demo-adaserve-auth" in notes
        assert not any(value.decode() in notes for value in values)

        release.run("upgrade", "--set", "services.gateway.replicas=3")
        assert server.named("deployments")["demo-adaserve-gateway"]["spec"]["replicas"] == 3
        assert release.secrets() == first

        assert "demo-adaserve-auth" in release.run("uninstall")
        assert release.secrets() == {"demo-adaserve-auth": first["demo-adaserve-auth"]}
        assert not server.named("deployments")
        release.run("install")
        assert release.secrets()["demo-adaserve-auth"] == first["demo-adaserve-auth"]


@needs_helm
def test_another_model_is_another_job_and_the_same_one_is_not() -> None:
    def jobs(*values: str) -> set[str]:
        text = chart.template("x", "--set", ",".join(values))
        return {each["metadata"]["name"] for each in documents_in(text) if each["kind"] == "Job"}

    first = jobs("models.target=hf://a/b@v1")
    assert len(first) == 1
    assert jobs("models.target=hf://a/b@v1", "services.gateway.replicas=2") == first
    assert jobs("models.target=hf://a/b@v2") != first
    assert not jobs("models.target=pvc://claim/b")


@needs_helm
def test_a_drafter_in_the_verifiers_pod_sees_its_own_password_only() -> None:
    text = chart.template("x", "--set", "services.drafter.inVerifierPod=true")
    pods = {
        each["metadata"]["labels"][COMPONENT]: each for each in documents_in(text) if each["kind"] == "Deployment"
    }
    assert set(pods) == {"gateway", "selector", "verifier"}
    containers = pods["verifier"]["spec"]["template"]["spec"]["containers"]
    mounted = {each["name"]: {mount["name"] for mount in each["volumeMounts"]} for each in containers}
    assert "redis-drafter" in mounted["drafter"]
    assert "redis-drafter" not in mounted["verifier"]
    assert "redis-verifier" not in mounted["drafter"]


@needs_helm
def test_a_volume_of_two_services_is_once_in_their_pod_and_a_selector_of_ones_own_stays(tmp_path: Path) -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"team": "x"}}}
    volume = {"name": "certs", "configMap": {"name": "certs"}}
    defaults = {"extraVolumes": [volume], "topologySpreadConstraints": [spread]}
    values = {"defaults": defaults, "services": {"drafter": {"inVerifierPod": True}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    text = chart.template("x", "--values", str(tmp_path / "values.yaml"))
    (pod,) = [
        each["spec"]["template"]["spec"]
        for each in documents_in(text)
        if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-verifier")
    ]
    names = [each["name"] for each in pod["volumes"]]
    assert len(names) == len(set(names))
    assert names.count("certs") == 1
    assert pod["topologySpreadConstraints"] == [spread]
