"""The schema, the query plans, and a Postgres that is away."""
