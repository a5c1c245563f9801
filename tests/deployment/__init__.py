"""What surrounds it: settings, a proxy, the runbook, secrets."""
