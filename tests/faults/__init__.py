"""Faults: processes, Postgres and the network fail, and every webhook answered 202 must still be stored."""
