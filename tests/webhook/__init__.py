"""From a signed request to a committed row and its answer."""
