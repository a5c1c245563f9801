"""How are the tickets of a file appended to the inbox?

Doors: `append`, `columns`, `dates`, `sources`, `survey`, `terms`, `ticket_file`.
"""
