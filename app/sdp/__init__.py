"""Which resolved tickets does ServiceDesk Plus have that no webhook brought? We ask its API V3 for them.

Doors: `account`, `address`, `client`, `errors`, `reconcile`, `summary`.
"""
