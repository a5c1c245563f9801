"""How is a question for similar tickets answered, and who may ask it?

Doors: `dependencies`, `endpoint`, `openapi`, `question`, `read_token`.
"""

PATH = "/tickets/similar"
