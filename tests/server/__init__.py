"""Connections, processes, and overload."""
