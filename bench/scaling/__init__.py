"""The chart's scaling rules on a request trace: what they attain, and what GPU-hours they take."""
