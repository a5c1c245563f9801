"""How old may a worker's last heartbeat be? A number alone, for readers that need nothing else of db/workers.py."""

DEAD_AFTER = 20.0  # seconds without one after which a worker is dead even if Postgres still has sessions of it
