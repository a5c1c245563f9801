"""What ServiceDesk Plus itself knows: its API V3, asked for the resolved tickets that no webhook brought."""
