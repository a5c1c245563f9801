"""How are the tickets of a file appended to the inbox?

Doors: `append`, `ticket_file`.
"""
