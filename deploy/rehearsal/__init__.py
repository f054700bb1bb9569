"""A release without a cluster: a small node reads what Helm rendered and runs it as processes, rolls it out and scales it."""
