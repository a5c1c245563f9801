"""Statistics that a stranger's view keeps are named, and cleared once it is gone. Postgres 18 clears them anyway."""

from collections.abc import Iterator

import psycopg
import pytest

from db import exposure, schema
from tests.conftest import clean_environment
from tests.database.test_what_estimates_say import BEFORE, FIRST, collected, fill
from tests.support.commands_in_process import run_here
from tests.support.installation import Installation, installation
from tests.support.revisions import upgrade
from tests.support.stranger import stranger
from tests.support.system import Database

# Neither needs a right to the table.
KEEP = """
CREATE TEMPORARY VIEW mine AS SELECT resolution, description FROM ticket_history;
CREATE TEMPORARY VIEW another AS SELECT payload FROM inbox;
CREATE FUNCTION pg_temp.mine() RETURNS text BEGIN ATOMIC SELECT priority FROM ticket_history LIMIT 1; END;
"""
DELIVERIES = """
INSERT INTO inbox (tenant_id, correlation_id, payload, signature)
SELECT 'globex', 'c', 'lawsuit', 's' FROM generate_series(1, 100)
"""
COLLECTED_OF_INBOX = "SELECT count(*) FROM pg_stats WHERE tablename = 'inbox' AND attname = 'payload'"


@pytest.fixture
def place(postgres_url: str) -> Iterator[Installation]:
    """An installation of the version before, whose tickets were analyzed."""
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        made.add_old_reader("reader_1", "acme")
        fill(made.owner, FIRST)
        made.owner.query(DELIVERIES)
        made.owner.query("ANALYZE inbox")
        yield made


def test_migrate_doctor_and_roles_name_what_keeps_them_and_roles_clear_them_later(
    place: Installation, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Postgres sets no column's type again that a view or a function names."""
    with stranger(Database(place.url)) as session:
        session.execute(KEEP)
        schema.upgrade(place.owner.url)
        migrated = capsys.readouterr().err
        keeps = session.info.server_version < 180000
        assert (collected(postgres_url, place) > 0) == keeps
        assert (place.owner.value(COLLECTED_OF_INBOX) > 0) == keeps
        warned = place.make().warnings
        environment = clean_environment(DATABASE_URL=place.owner.url)
        noted = run_here(["doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9"], environment).stdout
        for said in (migrated, "\n".join(warned), noted):
            assert ("every login can learn tenants' text from old statistics" in said) == keeps
            assert (f", in process {session.info.backend_pid}), or end its session" in said) == keeps
            for named in ("view pg_temp_", "function pg_temp_", "inbox.payload", "ticket_history.resolution"):
                assert (named in said) == keeps
            assert "ticket_history.source" not in said
        with psycopg.connect(place.url) as superuser:
            assert exposure.can_clear(superuser) == keeps
        session.execute("DISCARD TEMP")
    assert place.make().warnings == []
    assert (collected(postgres_url, place), place.owner.value(COLLECTED_OF_INBOX)) == (0, 0)
    assert place.by("reader_1").query("SELECT DISTINCT tenant_id FROM ticket_history") == [{"tenant_id": "acme"}]
    with psycopg.connect(place.owner.url, autocommit=True) as connection:
        connection.execute("ANALYZE ticket_history")
    assert collected(postgres_url, place) == 0
