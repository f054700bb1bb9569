"""Figures beside the limits that the hardware sets, measured in one run: `python -m bench.limits`."""
