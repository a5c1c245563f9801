"""The HTTP process: takes webhooks in, and the ticket-inbox command."""
