"""How is a resolved ticket's webhook verified, committed and answered?

Doors: `admission`, `dependencies`, `endpoint`, `kinds`, `openapi`, `problems`, `request_record`, `signature`,
`tenant_rate`.
"""

PATH = "/webhook/servicedesk/resolved-ticket"
