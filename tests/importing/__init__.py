"""Tickets from a file."""
