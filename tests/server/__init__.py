"""Connections, processes, and more than there is room for."""
