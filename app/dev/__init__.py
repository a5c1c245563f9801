"""How does all of it run on one machine with nothing installed?

Doors: `run`.
"""
