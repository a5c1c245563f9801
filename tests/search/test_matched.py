"""Which words does an answer name, in which order do answers come, and does it matter that a ticket is not indexed yet?"""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support import tickets_found
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

OTHERS = [Ticket(f"other{number}", f"mail {number} on SRV-MAIL-{number:02}") for number in range(20)]


@pytest.fixture
def database(module_database: Database) -> Iterator[Database]:
    """A tenant `acme` with an index that is ready and empty, in a transaction that is rolled back."""
    with module_database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        tickets_found.add_tenant(module_database, "acme")
        tickets_found.index(module_database)
        yield module_database


@pytest.mark.parametrize(
    ("asked", "text", "matched"),
    [
        ("SRV-PRINT-02", "SRV-PRINT-02", ["SRV-PRINT-02"]),
        ("mail cannot print on SRV-PRINT-02", "print queue of SRV-PRINT-02, mail", ["print", "SRV-PRINT-02", "mail"]),
        ("mail Vertretung", "Vertretungsplan by mail", ["mail", "Vertretung"]),
        ("打印机连不上网络", "打印机坏了, 网络也不行", ["打印机", "网络"]),
        ("เครื่องพิมพ์", "เครื่องพิมพ์", ["เครื่องพิมพ์"]),
    ],
)
def test_words_are_named_as_they_were_typed_and_the_most_telling_first(
    database: Database, asked: str, text: str, matched: list[str]
) -> None:
    """A word of its own also where a code has it too; one that only a longer word was found by comes last."""
    tickets_found.add(database, "acme", *OTHERS, Ticket("it", text))
    for _ in "before", "after":
        found = {one["ticket_id"]: one["matched"] for one in tickets_found.ask(database, "acme", asked).tickets}
        assert set(found["it"]) == set(matched)
        assert found["it"][0] == matched[0]
        assert found["it"][-1] == matched[-1]
        tickets_found.index(database)


def test_a_ticket_has_one_score_before_it_is_indexed_and_after(database: Database) -> None:
    """Also by a longer word, whose weight depends on how many tickets have such."""
    tickets_found.add(database, "acme", *OTHERS)
    tickets_found.add(database, "acme", *[Ticket(str(number), f"Vertretungsplan {number}") for number in range(8)])
    before = tickets_found.ask(database, "acme", "Vertretung im Oktober").scores
    assert len(before) == len(range(8))
    tickets_found.index(database)
    assert tickets_found.ask(database, "acme", "Vertretung im Oktober").scores == pytest.approx(before)


def test_of_tickets_with_the_same_score_the_later_comes_first(database: Database) -> None:
    """Whatever rounding a sum has, and where each says the question's words more often than the question does."""
    words = [f"word{number}" for number in range(15)]
    for number, word in enumerate(words):
        tickets_found.add(database, "acme", *[Ticket(f"{word}-{copy}", word) for copy in range(number)])
    same = [Ticket(f"s{day}", " ".join(words), day=f"2024-01-{day:02}") for day in (7, 3, 19, 11, 2, 23, 5)]
    more = [
        Ticket("rare", "zebra zebra zebra zebra", day="2024-02-01"),
        Ticket("late", "zebra zebra zebra", day="2024-02-02"),
    ]
    tickets_found.add(database, "acme", *same[:4], *more, *OTHERS)
    tickets_found.index(database)
    tickets_found.add(database, "acme", *same[4:])
    found = [one for one in tickets_found.ask(database, "acme", " ".join(words[:9])).ids if one.startswith("s")]
    assert found == [one.id for one in sorted(same, key=lambda one: one.day, reverse=True)]
    assert {*tickets_found.ask(database, "acme", "zebra").scores.values()} == {1}
    assert tickets_found.ask(database, "acme", "zebra").ids == ["late", "rare"]


def test_a_tenant_of_which_more_waits_than_is_indexed_is_refused_and_never_answered_with_nothing(
    database: Database,
) -> None:
    """Its index was made while it was empty; then its tickets were imported."""
    database.query(
        "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority) "
        "SELECT 'acme', 'i' || n, 'printer ' || n, 'r', now(), 'p' FROM generate_series(1, 501) AS n"
    )
    refused = pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState)
    with database.on_one_connection() as connection, refused, connection.transaction():
        tickets_found.ask(database, "acme", "printer")
    tickets_found.index(database)
    assert len(tickets_found.ask(database, "acme", "printer", 5).ids) == len(range(5))
