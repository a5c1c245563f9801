"""Which workers are alive? For readers that need nothing else of db/workers.py."""

DEAD_AFTER = 20.0  # seconds without one after which a worker is dead even if Postgres still has sessions of it

# A sub-select; its parameter is DEAD_AFTER.
COUNT_ALIVE = """
(SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => :dead_after))
""".strip()
