"""How much one cell can do: Redis' own CPU time for what the protocol does, measured, and what follows from it."""
