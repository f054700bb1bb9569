from __future__ import annotations

import pytest

from services.verifier.settings import VerifierSettings
from shared.errors import ConfigurationError
from shared.settings import read


@pytest.fixture(autouse=True)
def a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_TARGET", "models/target")


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({"DEVICE": "cuda", "TENSOR_PARALLEL": "3"}, ["cuda:0", "cuda:1", "cuda:2"]),
        ({"DEVICE": "cpu", "TENSOR_PARALLEL": "2"}, ["cpu", "cpu"]),
        ({"DEVICE": "cuda:1"}, ["cuda:1"]),
    ],
)
def test_each_rank_has_a_device(
    variables: dict[str, str], devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ADASERVE_{name}", value)
    settings = read(VerifierSettings)
    assert [settings.device_of(rank) for rank in range(settings.tensor_parallel)] == devices


@pytest.mark.parametrize(
    ("device", "ranks", "message"),
    [
        (
            "cuda:1",
            "2",
            "^ADASERVE_TENSOR_PARALLEL='2': needs ADASERVE_DEVICE=cuda and not cuda:1, for rank r runs",
        ),
        ("cpu", "0", "^ADASERVE_TENSOR_PARALLEL='0': Input should be greater than or equal to 1"),
        ("cpu", "two", "^ADASERVE_TENSOR_PARALLEL='two': "),
    ],
)
def test_ranks_that_cannot_be_are_refused_by_name(
    device: str, ranks: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADASERVE_DEVICE", device)
    monkeypatch.setenv("ADASERVE_TENSOR_PARALLEL", ranks)
    with pytest.raises(ConfigurationError, match=message):
        read(VerifierSettings)
