"""The schema, its plans, and a Postgres that is away."""
