"""The paper's SLO attainment in percent (arXiv 2501.12162, figures 8, 10, 11), by trace, hardware and system."""

from __future__ import annotations

from collections.abc import Mapping

LLAMA, QWEN = "llama70b-4xa100", "qwen32b-2xa100"
SYSTEMS = ("adaserve-paper", "sarathi", "vllm", "vllm-spec-4", "vllm-spec-6", "vllm-spec-8")
_FEW = ("adaserve-paper", "sarathi", "vllm-spec-4")
FITTED_ON = ("fig8_rps2.6", "fig8_rps4.0")


def _row(systems: tuple[str, ...], *percent: float) -> Mapping[str, float]:
    return dict(zip(systems, percent, strict=True))


ATTAINMENT: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "fig8_rps2.6": {
        LLAMA: _row(SYSTEMS, 98.4, 56.3, 46.9, 98.4, 98.0, 96.2),
        QWEN: _row(SYSTEMS, 98.8, 91.1, 70.3, 99.1, 97.4, 90.7),
    },
    "fig8_rps3.4": {
        LLAMA: _row(SYSTEMS, 94.4, 43.8, 39.7, 90.7, 90.8, 78.8),
        QWEN: _row(SYSTEMS, 92.5, 65.7, 48.1, 87.5, 71.2, 52.3),
    },
    "fig8_rps4.0": {
        LLAMA: _row(SYSTEMS, 93.5, 39.9, 35.6, 80.9, 79.1, 55.7),
        QWEN: _row(SYSTEMS, 90.7, 53.9, 41.7, 67.4, 43.1, 22.0),
    },
    "fig8_rps4.8": {LLAMA: _row(SYSTEMS, 86.5, 33.4, 25.8, 33.9, 41.7, 25.4)},
    "fig10_urgent0.3": {LLAMA: _row(_FEW, 87.4, 60.2, 62.9), QWEN: _row(_FEW, 81.1, 68.9, 45.0)},
    "fig10_urgent0.9": {LLAMA: _row(_FEW, 98.5, 31.2, 94.3), QWEN: _row(_FEW, 96.7, 61.3, 92.1)},
    "fig11_scale0.6": {LLAMA: _row(_FEW, 44.5, 38.2, 38.2), QWEN: _row(_FEW, 40.6, 40.1, 38.3)},
    "fig11_scale1.0": {LLAMA: _row(_FEW, 88.3, 38.4, 61.1), QWEN: _row(_FEW, 74.9, 42.6, 58.5)},
}

# Tokens per request per verification, the target's own included, at the lowest and the highest load of figure 8.
TOKENS_PER_VERIFICATION: Mapping[str, Mapping[str, float]] = {
    LLAMA: {"fig8_rps2.6": 6.23, "fig8_rps4.8": 4.82},
    QWEN: {"fig8_rps2.6": 3.85, "fig8_rps4.0": 2.93},
}
