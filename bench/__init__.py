"""Load, baselines and end-to-end comparisons of a running stack."""
