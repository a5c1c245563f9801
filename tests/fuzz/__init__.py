"""Input that is generated or mutated, as no sender would send on purpose, with seeds that replay it."""
