"""What dies, and what is left of the promise then."""
