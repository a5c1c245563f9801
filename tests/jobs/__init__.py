"""The workers' jobs on the inbox."""
