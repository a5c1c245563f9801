"""The tests' helpers: real processes, and fakes that speak the real protocol."""
