"""How models come to the pods: what the Job fetches, where it puts it, and where the services look for it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploy.chart import CHART, ROOT
from tests.chart.renders import Document, Pod, Render, renders


@pytest.fixture
def fetcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_model", CHART / "files/fetch_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a hub was asked for; it has every model."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> None:
        calls.append({"name": name, **options})
        (options["local_dir"] / ".cache").mkdir(parents=True)
        (options["local_dir"] / "config.json").write_text("{}")

    monkeypatch.setattr(fetcher, "snapshot_download", snapshot_download)
    return calls


def test_a_model_appears_whole_and_is_fetched_once(
    fetcher: ModuleType, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    directory = tmp_path / "v2/org/name"
    fetcher.fetch("org/name@v2", directory)
    fetcher.fetch("org/name@v2", directory)
    assert [path.name for path in directory.iterdir()] == ["config.json"]
    assert [path.name for path in directory.parent.iterdir()] == ["name"]
    assert [(call["name"], call["revision"]) for call in asked] == [("org/name", "v2")]


def test_without_a_revision_the_hub_chooses(
    fetcher: ModuleType, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    fetcher.fetch("org/name", tmp_path / "main/org/name")
    assert asked[0]["revision"] is None


def test_a_download_that_breaks_leaves_no_directory_that_pods_would_take(
    fetcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(name: str, *, local_dir: Path, **_: Any) -> None:
        local_dir.mkdir(parents=True)
        raise OSError("the line is cut")

    monkeypatch.setattr(fetcher, "snapshot_download", break_down)
    with pytest.raises(OSError, match="cut"):
        fetcher.fetch("org/name", tmp_path / "main/org/name")
    assert not (tmp_path / "main/org/name").exists()


@pytest.mark.parametrize("words", [[], ["org/name"], ["a/b", "d", "c/d"]])
def test_half_a_pair_is_refused(fetcher: ModuleType, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fetch_model.py", *words])
    with pytest.raises(SystemExit, match="usage"):
        fetcher.main()


def test_it_fetches_what_the_services_themselves_would(fetcher: ModuleType) -> None:
    """Read as text: the module that loads models takes a second to import."""
    loading = (ROOT / "shared/inference/loading.py").read_text()
    for name in ("FETCHED", "NOT_FETCHED"):
        found = re.search(rf"^_{name} = (\[.*\])$", loading, re.MULTILINE)
        assert found is not None
        assert found[1] == str(getattr(fetcher, name)).replace("'", '"')


FETCHED = [(render, job) for render in renders() for job in render.pods() if job.owner["kind"] == "Job"]


def paths(pod: Pod) -> dict[str, str]:
    """Directories of models by the variable that names them."""
    return {
        name: entry["value"]
        for container in pod.containers(first=False)
        for name, entry in container.env.items()
        if name in ("ADASERVE_TARGET", "ADASERVE_DRAFT")
    }


@pytest.mark.parametrize(
    ("render", "job"), FETCHED, ids=lambda value: value.name if isinstance(value, Render) else ""
)
def test_services_look_where_the_job_puts_it_and_wait_for_it(render: Render, job: Pod) -> None:
    (container,) = job.containers()
    made = set(container.spec["command"][3::2])
    services = render.pods_of("gateway", "drafter", "verifier")
    for pod in services:
        needed = {path for path in paths(pod).values() if path.startswith("/models/cache/")}
        assert needed <= made
        waits = [each for each in pod.spec.get("initContainers", []) if each["name"] == "await-models"]
        assert {word for each in waits for word in each["command"][3:]} == needed
    assert made == {path for pod in services for path in paths(pod).values()} & made


def offline(pod: Pod) -> bool:
    containers = [each for each in pod.containers(first=False) if paths(pod)]
    return all(each.env["HF_HUB_OFFLINE"] == {"name": "HF_HUB_OFFLINE", "value": "1"} for each in containers)


@pytest.mark.parametrize("render", renders(), ids=lambda render: render.name)
def test_no_service_asks_the_hub(render: Render) -> None:
    assert all(offline(pod) for pod in render.pods_of("gateway", "drafter", "verifier"))


def volumes(pod: Document) -> dict[str, Document]:
    return {each["name"]: each for each in pod["volumes"]}


def test_a_claim_of_somebody_elses_is_read_only() -> None:
    shared = next(render for render in renders() if render.name == "shared-gpu")
    (pod,) = shared.pods_of("verifier")
    for role in ("target", "draft"):
        claim = {"claimName": "models", "readOnly": True}
        assert volumes(pod.spec)[f"model-{role}"]["persistentVolumeClaim"] == claim
    assert paths(pod) == {
        "ADASERVE_TARGET": "/models/target/qwen2.5-7b-instruct",
        "ADASERVE_DRAFT": "/models/draft/qwen2.5-0.5b-instruct",
    }


def test_ranks_have_a_gpu_each_and_memory_to_exchange_through() -> None:
    divided = next(render for render in renders() if render.name == "tensor-parallel")
    (pod,) = divided.pods_of("verifier")
    (container,) = pod.spec["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["ADASERVE_TENSOR_PARALLEL"] == "4"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert volumes(pod.spec)["shm-verifier"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert {"name": "shm-verifier", "mountPath": "/dev/shm"} in container["volumeMounts"]


@pytest.mark.parametrize("render", renders(), ids=lambda render: render.name)
def test_only_a_verifier_of_several_ranks_is_told_of_them(render: Render) -> None:
    told = [
        name for name in ("drafter", "verifier") for pod in render.pods_of(name) if "TENSOR_PARALLEL" in str(pod)
    ]
    assert told == (["verifier"] if render.name == "tensor-parallel" else [])
