"""What nobody would send on purpose: input that is generated or mutated, with seeds that replay it."""
