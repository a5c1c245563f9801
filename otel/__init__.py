"""What can be seen of the processes from outside? Logs, traces and metrics."""
