"""How do the tickets of a file come into the inbox?

Doors: `append`, `ticket_file`.
"""
