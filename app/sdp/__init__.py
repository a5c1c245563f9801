"""Which resolved tickets does ServiceDesk Plus itself know? Its API V3, asked for what no webhook brought.

Doors: `account`, `client`, `errors`, `reconcile`, `summary`.
"""
