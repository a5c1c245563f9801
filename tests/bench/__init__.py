"""Benchmarks: what is ticket-inbox worth, and what does it cost? Run by hand, not by pytest; figures of one machine."""
