"""What workers do with the inbox."""
