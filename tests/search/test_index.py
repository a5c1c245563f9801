"""The index holds what ticket_history says, whatever wrote to it in which order, and in batches of any size."""

import random

import psycopg
import pytest

from tests.support import tickets_found
from tests.support.system import Database
from tests.support.tickets_found import Ticket

WORDS = ["printer", "jam", "vpn", "0x80070005", "KB5001330", "mail", "9.1.4", "the", "db07.corp.example", "打印机无法"]
# Each row is something that is not as it must be: of words' counts, of their lists, of tickets' numbers.
WRONG = """
WITH each AS (
  SELECT index_id, number, word, n FROM search_tickets CROSS JOIN LATERAL unnest(words, counts) AS each (word, n)
), listed AS (
  SELECT id AS word, number FROM search_words CROSS JOIN LATERAL unnest(numbers, impacts) AS each (number, impact)
  UNION ALL
  SELECT word, number FROM search_postings CROSS JOIN LATERAL unnest(numbers, impacts) AS each (number, impact)
), sums AS (
  SELECT index_id, count(*) AS tickets, sum(length) AS words FROM search_tickets GROUP BY index_id
)
SELECT 'word ' || word.word AS wrong FROM search_words AS word
WHERE tickets <> (SELECT count(*) FROM each WHERE each.word = id) OR tickets = 0
UNION ALL
SELECT 'list of ' || word FROM (SELECT word, number FROM each EXCEPT ALL SELECT word, number FROM listed) AS missing
UNION ALL
SELECT 'too much in list of ' || word FROM (SELECT word, number FROM listed EXCEPT ALL SELECT word, number FROM each) AS more
UNION ALL
SELECT 'order of ' || word FROM search_postings WHERE numbers <> ARRAY(SELECT unnest(numbers) ORDER BY 1)
UNION ALL
SELECT 'block of ' || word FROM search_postings WHERE last < ALL (numbers) OR numbers = '{}'
UNION ALL
SELECT 'index ' || id FROM search_indexes LEFT JOIN sums ON index_id = id
WHERE search_indexes.tickets <> coalesce(sums.tickets, 0) OR search_indexes.words <> coalesce(sums.words, 0)
UNION ALL
SELECT 'length of ' || ticket FROM search_tickets
WHERE length <> (SELECT coalesce(sum(n), 0) FROM unnest(words, counts) AS each (word_id, n) JOIN search_words ON id = word_id
                 WHERE word !~ '[._-]')
"""
IN_INDEX = """
SELECT tenant_id || ' ' || ticket AS one FROM search_tickets JOIN search_indexes ON id = index_id ORDER BY 1
"""
ANSWERS = """
SELECT tenant_id || ' ' || id AS one FROM ticket_history WHERE tenant_id <> 'unknown' AND btrim(resolution, E' \n') <> '' ORDER BY 1
"""
SOME = "id IN (SELECT id FROM ticket_history ORDER BY md5(id || %s::text) LIMIT %s)"

pytestmark = pytest.mark.one_postgres


def check(database: Database) -> None:
    """Fail unless the index is what it must be once nothing is due."""
    assert database.query(WRONG) == []
    assert database.query(IN_INDEX) == database.query(ANSWERS)
    assert database.value("SELECT count(*) FROM search_due") == 0


def insert(database: Database, draw: random.Random) -> None:
    for _ in range(draw.randrange(20)):
        text = " ".join(draw.choices(WORDS, k=draw.randrange(1, 30)))
        tenant_id = draw.choice(["acme", "globex", "unknown"])
        ticket = Ticket(
            str(draw.random()), text, draw.choice(["Mended.", "", " \n"]), tags=tuple(draw.sample("abc", 2))
        )
        tickets_found.add(database, tenant_id, ticket)


def update(database: Database, draw: random.Random) -> None:
    changes = [
        "description = description || ' toner ' || id", "resolution = 'Mended.'", "resolution = ''", "tags = '{x}'",
        "resolved_date = resolved_date + interval '40 days'", "updated_at = now()", "priority = 'Low'",
        "tenant_id = CASE tenant_id WHEN 'acme' THEN 'globex' ELSE 'acme' END",
    ]  # fmt: skip
    change = draw.choice(changes)
    database.query(f"UPDATE ticket_history SET {change} WHERE {SOME}", draw.random(), draw.randrange(10))


def delete(database: Database, draw: random.Random) -> None:
    database.query(f"DELETE FROM ticket_history WHERE {SOME}", draw.random(), draw.randrange(4))


def some_batches(database: Database, draw: random.Random) -> None:
    for _ in range(draw.randrange(4)):
        database.value("SELECT search_index_batch(%s)", draw.choice([1, 3, 50]))


def another_language(database: Database, draw: random.Random) -> None:
    with database.on_one_connection() as connection, connection.transaction():
        database.query("UPDATE search_indexes SET tenant_id = NULL WHERE tenant_id = 'acme' AND NOT is_ready")
        database.query(
            "INSERT INTO search_indexes (tenant_id, configuration) VALUES ('acme', %s)",
            draw.choice(["german", "simple"]),
        )


def test_the_index_follows_whatever_is_written(database: Database) -> None:
    """Also what is moved to another tenant, and what is written while an index is filled, replaced or deleted."""
    draw = random.Random(24)
    acts = [insert, update, delete, some_batches, another_language]
    for tenant_id in ("acme", "globex"):
        database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES (%s, 's')", tenant_id)
    with database.on_one_connection():
        for number in range(200):
            draw.choices(acts, [5, 3, 2, 4, 1])[0](database, draw)
            if number % 40 == 39:
                tickets_found.index(database, draw.choice([2, 7, 1000]))
                check(database)
        assert database.value("SELECT max(tickets) FROM search_words") > 30
        tickets_found.add_tenant(database, "initec", "german")
        database.query("TRUNCATE ticket_history, search_due")
        insert(database, draw)
        tickets_found.index(database)
        check(database)
        languages = database.query(
            "SELECT tenant_id, configuration FROM search_indexes WHERE tenant_id <> 'acme' ORDER BY 1"
        )
        assert [tuple(row.values()) for row in languages] == [("globex", "pg_catalog.english"), ("initec", "german")]


def test_long_lists_are_kept_in_rows_of_hundreds(database: Database) -> None:
    """And one ticket after the other is taken out of them again; no row is left that has none."""
    tickets_found.add_tenant(database, "acme")
    with database.on_one_connection():
        tickets_found.add(
            database, "acme", *(Ticket(str(number), f"printer {number % 3} jam") for number in range(900))
        )
        tickets_found.index(database, 350)
        check(database)
        assert database.value("SELECT count(*) FROM search_postings") >= 3 * 3
        database.query("UPDATE ticket_history SET description = description || ' again'")
        tickets_found.index(database, 350)
        check(database)
        database.query("DELETE FROM ticket_history WHERE mod(id, 2) = 0")
        database.query("UPDATE ticket_history SET description = 'toner' WHERE mod(id, 6) = 1")
        tickets_found.index(database, 350)
        check(database)
        database.query("DELETE FROM ticket_history")
        tickets_found.index(database)
        check(database)
        assert (
            database.value("SELECT count(*) FROM search_words")
            == database.value("SELECT count(*) FROM search_postings")
            == 0
        )


def test_long_texts_count_once_they_are_indexed(database: Database) -> None:
    """To take them apart at each question would take longer than a question may."""
    tickets_found.add_tenant(database, "acme")
    tickets_found.index(database)
    for number in range(30):
        tickets_found.add(database, "acme", Ticket(str(number), "printer ".ljust(10_000, ".")))
        assert len(tickets_found.ask(database, "acme", "printer").ids) == number + 1
    tickets_found.add(database, "acme", Ticket("30", "printer ".ljust(10_000, ".")))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        tickets_found.ask(database, "acme", "printer")
    tickets_found.index(database)
    assert len(tickets_found.ask(database, "acme", "printer").ids) == 31


def test_a_write_that_is_rolled_back_is_not_due_and_one_that_commits_later_is(database: Database) -> None:
    """A ticket's transaction may be open for long while the job goes on."""
    tickets_found.add_tenant(database, "acme")
    with psycopg.connect(database.url) as late:
        late.execute(tickets_found.ADD, ["acme", "late", "printer", "r", "2024-01-01", "p", []])
        tickets_found.add(database, "acme", Ticket("soon", "printer"))
        tickets_found.index(database)
        assert database.value("SELECT sum(tickets) FROM search_indexes") == 1
    tickets_found.index(database)
    check(database)
    assert database.value("SELECT sum(tickets) FROM search_indexes") == 2


def test_what_was_written_before_is_filled_in(database: Database) -> None:
    """Also that of a tenant that is added later."""
    with database.on_one_connection():
        tickets_found.add(database, "acme", *(Ticket(str(number), "printer") for number in range(30)))
        tickets_found.index(database)
        assert database.value("SELECT count(*) FROM search_due") == 0
        database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES ('acme', 's')")
        tickets_found.index(database, 7)
        check(database)
        assert database.value("SELECT position FROM search_indexes WHERE is_ready") == ""


def test_filling_and_deleting_go_on_while_tickets_come_without_a_pause(database: Database) -> None:
    """Some are always due then."""
    with database.on_one_connection():
        tickets_found.add(database, "acme", *(Ticket(str(number), "printer") for number in range(30)))
        tickets_found.index(database)
        tickets_found.add_tenant(database, "acme", "german")
        for number in range(30, 90):
            tickets_found.add(database, "acme", Ticket(str(number), "scanner"))
            database.value("SELECT search_index_batch(7)")
            if number == 40:
                assert database.value("SELECT is_ready FROM search_indexes")
                change = "INSERT INTO search_indexes (tenant_id, configuration) VALUES ('acme', 'pg_catalog.english')"
                database.query(change)
        assert database.query("SELECT configuration, is_ready FROM search_indexes") == [
            {"configuration": "pg_catalog.english", "is_ready": True}
        ]


def test_a_ticket_that_postgres_makes_no_words_of_keeps_no_other_from_being_found(database: Database) -> None:
    """There is none that we know of."""
    tickets_found.add_tenant(database, "acme")
    with database.on_one_connection():
        database.query(
            "CREATE OR REPLACE FUNCTION search_filter_words(priority text, tags text[], resolved_date timestamptz) RETURNS text[] "
            "LANGUAGE sql IMMUTABLE AS $$ SELECT ARRAY[chr(CASE priority WHEN 'bad' THEN 0 ELSE 32 END)] $$"
        )
        tickets = [Ticket(str(number), "printer", priority="bad" if number == 17 else "p") for number in range(40)]
        tickets_found.add(database, "acme", *tickets)
        tickets_found.index(database)
        assert database.value("SELECT sum(tickets) FROM search_indexes") == 39
        assert len(tickets_found.ask(database, "acme", "printer").ids) == 39
        assert database.query(WRONG) == []
