"""What can be seen from outside: logs and trace context today, spans and metrics as they come."""
