"""What a GPU does beside what it could do; `python -m bench.gpu` runs it."""
