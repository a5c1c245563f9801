"""Which tickets are similar, and how much: exact BM25 of the tenant's own tickets, from the moment they are written."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from tests.support import tickets_found
from tests.support.exact_bm25 import Exact
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

VOCABULARY = ["printer", "jam", "vpn", "mail", "toner", "screen", "0x80070005", "slow", "account", "network", "the"]
RARE = [f"SRV-{number:03d}" for number in range(40)]


def tickets(count: int, seed: int = 1) -> list[Ticket]:
    draw = random.Random(seed)
    return [
        Ticket(
            str(number),
            " ".join([*draw.choices(VOCABULARY, range(11, 0, -1), k=draw.randrange(3, 40)), draw.choice(RARE)]),
            day=f"202{draw.randrange(4)}-0{draw.randrange(1, 10)}-1{draw.randrange(10)}",
            priority=draw.choice(["High", "Low", "Mid"]),
            tags=tuple(draw.sample(["a", "b", "c"], draw.randrange(3))),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def database(module_database: Database) -> Iterator[Database]:
    with module_database.on_one_connection():
        tickets_found.add_tenant(module_database, "acme")
        tickets_found.add_tenant(module_database, "globex")
        tickets_found.add(module_database, "globex", *tickets(120, seed=2))
        tickets_found.add(module_database, "acme", *tickets(300))
        tickets_found.index(module_database)
        yield module_database


QUESTIONS = [
    "printer jam",
    "SRV-007 is slow",
    "mail vpn mail 0x80070005 toner",
    "network account the screen SRV-011 SRV-012",
]


@pytest.mark.parametrize("text", QUESTIONS)
def test_the_best_tickets_are_those_of_exact_bm25(database: Database, text: str) -> None:
    """And another tenant's tickets do not count, though they have the same words."""
    exact = Exact(database, tickets(300)).scores(text)
    found = tickets_found.ask(database, "acme", text, 10).scores
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(found.values()) == pytest.approx(sorted(exact.values(), reverse=True)[:10])
    assert found == pytest.approx({number: exact[number] for number in found})


def test_what_is_written_counts_at_once_and_counts_the_same_once_it_is_indexed(database: Database) -> None:
    """New tickets, changed and deleted ones: frequencies too."""
    changes = "UPDATE ticket_history SET description = 'printer jam SRV-001' WHERE tenant_id = 'acme' AND ticket_id IN ('1', '2')"
    gone = "DELETE FROM ticket_history WHERE tenant_id = 'acme' AND ticket_id IN ('3', '4', '5')"
    silent = "UPDATE ticket_history SET resolution = ' ' WHERE tenant_id = 'acme' AND ticket_id = '6'"
    now = [one for one in tickets(300) if one.id not in ["1", "2", "3", "4", "5", "6"]]
    now += [Ticket("1", "printer jam SRV-001"), Ticket("2", "printer jam SRV-001"), *tickets_of_today()]
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        for change in (changes, gone, silent):
            database.query(change)
        tickets_found.add(database, "acme", *tickets_of_today())
        answers = [[tickets_found.ask(database, "acme", text, 10).scores for text in QUESTIONS]]
        tickets_found.index(database)
        answers.append([tickets_found.ask(database, "acme", text, 10).scores for text in QUESTIONS])
        exact = Exact(database, now)
        for text, before, after in zip(QUESTIONS, *answers, strict=True):
            assert before == pytest.approx(after)
            assert list(before.values()) == pytest.approx(sorted(exact.scores(text).values(), reverse=True)[:10])


def tickets_of_today() -> list[Ticket]:
    return [Ticket(f"new{number}", f"printer mail SRV-0{number} network toner") for number in range(10, 40)]


def test_a_ticket_asked_with_its_own_text_has_score_one_whatever_the_limit(database: Database) -> None:
    own = tickets(300)[17]
    for limit in (1, 5, 50):
        answer = tickets_found.ask(database, "acme", own.text, limit)
        assert answer.ids[0] == "17"
        assert answer.tickets[0]["score"] == pytest.approx(1)
        assert len(answer.tickets) == limit
    without = tickets_found.ask(database, "acme", own.text, 5, exclude_ticket_id="17")
    assert without.ids == tickets_found.ask(database, "acme", own.text, 6).ids[1:]


FILTERS: list[dict[str, Any]] = [
    {"priority": ["Low"]}, {"tags": ["a", "x"]}, {"resolved_after": "2023-05-11T12:00Z"}, {"resolved_after": "2020-01-01T00:00Z"},
    {"priority": ["High", "Mid"], "tags": ["b"], "resolved_after": "2021-08-12T00:00Z"}, {"priority": ["low"]},
    {"tags": ["nobody's"]}, {"resolved_after": "2031-01-01T00:00Z"},
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_narrow_the_search_and_never_its_result(database: Database, filters: Mapping[str, Any]) -> None:
    """The first five of the tickets that fulfil them, with the scores that they have without."""
    text = QUESTIONS[3]
    allowed = {one.id for one in tickets(300) if fulfils(one, filters)}
    scores = {
        number: score for number, score in Exact(database, tickets(300)).scores(text).items() if number in allowed
    }
    for limit in (5, 50):
        found = tickets_found.ask(database, "acme", text, limit, **filters)
        assert list(found.scores.values()) == pytest.approx(sorted(scores.values(), reverse=True)[:limit])
        assert set(found.ids) <= allowed


def fulfils(ticket: Ticket, filters: Mapping[str, Any]) -> bool:
    has_tag = "tags" not in filters or bool(set(filters["tags"]) & set(ticket.tags))
    return (
        ticket.priority in filters.get("priority", [ticket.priority])
        and has_tag
        and ticket.day + "T00:00Z" > filters.get("resolved_after", "")
    )


@pytest.mark.parametrize(
    "day", ["-infinity", "4713-01-01 BC", "0044-03-15 BC", "0001-01-01", "9999-12-30", "12000-01-01"]
)
def test_a_ticket_is_resolved_after_each_moment_before_it(database: Database, day: str) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        tickets_found.add(
            database, "acme", Ticket("late", "late", day="infinity"), Ticket("14000", "late", day="14000-01-01")
        )
        tickets_found.index(database)
        assert set(tickets_found.ask(database, "acme", "late", resolved_after=day).ids) == {"late", "14000"}
        assert tickets_found.ask(database, "acme", "late", resolved_after="infinity").ids == []


def test_an_answer_has_the_tickets_members_and_the_later_of_two_that_are_alike_comes_first(database: Database) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        for number, day in enumerate(["2024-01-01", "2024-03-01", "2024-02-01"]):
            tickets_found.add(
                database, "acme", Ticket(f"z{number}", "Zeppelin lost\n\nIt is gone.\n\nAgain.", day=day, tags=("t",))
            )
        answer = tickets_found.ask(database, "acme", "is gone", subject="zeppelin")
        assert answer.ids == ["z1", "z2", "z0"]
        assert answer.tickets[0] | {"score": 1} == {
            "ticket_id": "z1", "display_id": None, "subject": "Zeppelin lost", "description": "It is gone.\n\nAgain.",
            "resolution": "Mended.", "resolved_date": "2024-03-01T00:00:00+00:00", "priority": "High", "tags": ["t"],
            "source": "webhook_resolved", "score": 1, "matched": ["gone", "zeppelin"],
        }  # fmt: skip
        assert answer.lexemes == 2


@pytest.mark.parametrize("text", ["the of and", "... !", "nobody has said that before: xyzzy"])
def test_a_question_that_nothing_matches_has_no_answer_and_is_no_error(database: Database, text: str) -> None:
    assert tickets_found.ask(database, "acme", text).tickets == []


FILTERS_RULE = "priority and tags must name at least one value each and no null, or be left out"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"text": " \n\t"}, "subject or description must have text"),
    ({"text": None}, "subject or description must have text"),
    ({"text": "x" * 10_001}, "description must have at most 10000 characters"),
    ({"text": "x", "subject": "x" * 1001}, "subject must have at most 1000 characters"),
    ({"text": "x", "limit": 0}, "max_results must be from 1 to 50"),
    ({"text": "x", "limit": 51}, "max_results must be from 1 to 50"),
    ({"text": "x", "limit": None}, "max_results must be from 1 to 50"),
    ({"text": "x", "priority": []}, FILTERS_RULE),
    ({"text": "x", "tags": ["a", None]}, FILTERS_RULE),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_a_wrong_argument_is_refused_in_words_without_its_value(
    database: Database, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        tickets_found.ask(database, "acme", **given)
    assert refused.value.diag.message_primary == message


def test_a_tenant_whose_words_are_not_built_is_answered_while_it_is_small_and_refused_then(database: Database) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES ('new', 's')")
        assert tickets_found.ask(database, "new", "printer").tickets == []
        tickets_found.add(database, "new", *tickets(500))
        before = tickets_found.ask(database, "new", QUESTIONS[3], 10).scores
        assert len(before) == 10
        tickets_found.add(database, "new", Ticket("one more", "printer", resolution=""))
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused, connection.transaction():
            tickets_found.ask(database, "new", "printer")
        assert refused.value.diag.message_primary == "the words of the tenant's tickets are not built yet"
        tickets_found.index(database)
        assert tickets_found.ask(database, "new", QUESTIONS[3], 10).scores == pytest.approx(before)


def test_a_language_that_changes_answers_as_before_until_it_is_built(database: Database) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        database.query("INSERT INTO search_indexes (tenant_id, configuration) VALUES ('acme', 'simple')")
        before = tickets_found.ask(database, "acme", "printers", 5).ids
        assert before
        database.value("SELECT search_index_batch(100)")
        assert tickets_found.ask(database, "acme", "printers", 5).ids == before
        tickets_found.index(database)
        assert tickets_found.ask(database, "acme", "printers", 5).ids == []
        assert database.value("SELECT count(*) FROM search_indexes WHERE tenant_id IS NULL") == 0
