"""Discrete-event simulation with the real selection, control and scheduling code; only engine and clock are models."""
