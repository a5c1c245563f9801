"""The worker process. `jobs.app` is the Procrastinate app: `procrastinate --app=jobs.app …`.

Every task is a line in `import_paths`; what a task needs, it imports when it runs, so that the
procrastinate command answers at once.
"""

from procrastinate import App, PsycopgConnector

from app import settings as environment

settings = environment.load_or_exit()

# Concurrency is at least 2: a worker with one slot can sleep through a wake-up until its next poll
# (docs/decisions/0006). The poll is what finds a job whose wake-up was lost with its connection.
app = App(
    connector=PsycopgConnector(conninfo=settings.database_url, kwargs={"application_name": "ticket-inbox worker"}),
    import_paths=["jobs.promote"],
    worker_defaults={
        "concurrency": settings.worker_concurrency,
        "fetch_job_polling_interval": 1.0,
        "shutdown_graceful_timeout": settings.shutdown_timeout_seconds,
    },
)
