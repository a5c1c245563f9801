"""Running ticket-inbox: settings, a proxy, the runbook, secrets."""
