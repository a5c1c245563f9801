"""How does everything run on one machine with nothing installed?

Doors: `run`.
"""
