"""Images that nobody chose."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, in_container
from tests.chart.policies import images as policies

OURS = "ghcr.io/adaserve/adaserve-verifier"

PLANTS: Plants = [
    (policies.is_an_exact_image, in_container(image=f"{OURS}:latest")),
    (policies.is_an_exact_image, in_container(image=OURS)),
    (policies.is_an_image_of_the_values, in_container(image="quay.example/adaserve/adaserve-verifier:0.1.0")),
    (policies.is_an_image_of_the_values, in_container(image=f"{OURS}:0.0.9")),
    (policies.pulls_once, in_container(imagePullPolicy="Always")),
]
