"""Similar tickets: a word index of each tenant's tickets, what keeps it, and the functions that find by it.

The SQL is in the files beside this one, a function or a few in each.
"""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

HERE = Path(__file__).resolve().parent
FILES = (
    "search_tables", "search_triggers", "search_words", "search_fill", "search_index_batch", "search_question",
    "search_fresh", "similar_tickets", "search_rights",
)  # fmt: skip
# The functions name all that they use by its schema, which is that of the migration's session. What is lower case
# depends on the database's locale, unless Postgres has a collation that knows all letters.
SCRIPT = """
DO $run$
DECLARE
    lower_by CONSTANT text := coalesce(
        (SELECT 'pg_catalog.' || quote_ident(collname) FROM pg_collation
         WHERE collname IN ('pg_c_utf8', 'und-x-icu') AND collnamespace = 'pg_catalog'::regnamespace
           AND collencoding IN (-1, pg_char_to_encoding('UTF8'))
         ORDER BY collname LIMIT 1),
        'pg_catalog."default"');
BEGIN
    EXECUTE replace(replace($sql$
{}$sql$, '@schema@', quote_ident(current_schema())), '@lower@', lower_by);
END;
$run$;
"""


def upgrade() -> None:
    for name in FILES:
        run_script(SCRIPT.format((HERE / f"0015_{name}.sql").read_text()))


def downgrade() -> None:
    run_script((HERE / "0015_similar_tickets_down.sql").read_text())


def run_script(sql: str) -> None:
    """Run `sql` as it stands: it holds colons and per cent signs that are no parameters, and many statements."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql)
    else:
        op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
