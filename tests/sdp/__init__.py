"""ServiceDesk Plus: we ask its API, and its scripts send to us."""
