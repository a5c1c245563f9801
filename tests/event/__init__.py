"""Both wire forms, at their borders."""
