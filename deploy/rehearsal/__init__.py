"""A release without a cluster: a small node runs what Helm rendered as processes, rolls it out and scales it."""
