"""How do bytes on a port become requests, within limits, in one process or several?

Doors: `deadlines`, `ports`, `processes`, `run`, `shedding`.
"""
