"""Traces, metrics, logs, alerts."""
