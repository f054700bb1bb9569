"""The Grafana dashboards, described in Python and written as JSON: `python -m deploy.dashboards`."""
