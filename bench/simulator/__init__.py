"""Discrete-event simulation with the real selection, control and scheduling code; engine and clock are models."""
