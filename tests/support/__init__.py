"""What the tests drive: real processes, and fakes that speak the real protocol."""
