"""ServiceDesk Plus: asked by us, and sending to us."""
