"""Codes, names and words are found as they are, and by the part that people type."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support import tickets_found
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

# What a ticket says, and what people type. Those of the first group stand in the issue.
ENGLISH = [
    ("KB5001330/KB5001337 was installed", "KB5001330"),
    ("the database says ORA-00942 again", "00942"),
    ("is CVE-2021-34527 mended", "34527"),
    ("update fails with 0x80070005", "80070005"),
    ("after v9.1.4 came", "9.1.4"),
    ("ping db07.corp.example fails", "db07"),
    ("print/scan is broken", "scan"),
    ("did a restart.Then it hung", "restart"),
    (r"C:\Windows\System32\spoolsv.exe crashes", "spoolsv.exe"),
    (r"D:\Windows\System32\lsass.exe crashes", "lsass"),
    ("SRV-PRINT-02 is silent", "SRV-PRINT-02"),
    ("0x8007000E was shown", "0x8007000e"),
    ("KB5009999 is missing", "kb5009999"),
    ("KB5001111 is needed", "5001111"),
    ("SRV-FAX-03.corp.example is away", "srv-fax-03"),
    ("SRV\u2011MAIL\u201104 with dashes of a word processor", "SRV-MAIL-04"),
    ("log4j-2.14.1.jar was found", "2.14.1"),
    ("Windows 10.0.19041.1288 hangs", "19041"),
    ("Outlook 16.0.5 hangs", "16.0"),
    ("vpn_gw_01 is full", "vpn_gw_01"),
    ("write to anna.smith@mail.example now", "mail.example"),
    ("see https://kb.example.net/articles/4711?page=2", "4711"),
    ("see https://x.example/sites/hr/Wanted%20Poster%20%28new%29.xlsx", "poster"),
    ("\uff2b\uff22\uff15\uff10\uff10\uff17\uff17\uff17\uff17 in wide letters", "KB5007777"),
    ("pass\u00adphrase with a soft hyphen", "passphrase"),
    ("non\u00a0breaking\u00a0blanks", "breaking"),
    ("printers printed", "printing"),
    ("explorer ends with 0xC0000005", "C0000005"),
    ("a LaserJet M404dn", "M404"),
    ("프린터가 작동하지 않습니다", "프린터"),
    ("reserverations", "reserve"),
    ("打印机无法连接", "打印机"),
    ("プリンターが動かない", "プリンター"),
    ("เครื่องพิมพ์เสีย", "พิมพ์"),
    ("จอภาพไม่ทำงาน", "ทำงาน"),
    ("ປິ່ນ ບໍ່ຈຳ", "ຈຳ"),
    ("המדפסת לא עובדת", "המדפסת"),
    ("الطابعة لا تعمل", "الطابعة"),
    ("الشاشـــة سوداء", "الشاشة"),
    ("компʼютер зламався", "ютер"),
    ("принтер не печатает", "ПРИНТЕР"),
    ("Xenplan was updated", "Xenplan"),
    ("\u00b4toolbar\u00b4 is away", "toolbar"),
    ("a \u00a8sidebar\u00a8 or two", "sidebar"),
    ("room \u211645 is locked", "45"),
    ("İnternet is away", "internet"),
]  # fmt: skip
GERMAN = [
    ("Der Vertretungsplan fehlt", "Vertretung"),
    ("Kennwörter werden vergessen", "Kennwort"),
    ("Das Passwort zurücksetzen", "ZURÜCKSETZEN"),
    ("mit zuru\u0308ckgesetzt", "zurückgesetzt"),
    ("Die Straße ist gesperrt", "Strasse"),
]


@pytest.fixture(scope="module")
def database(module_database: Database) -> Iterator[Database]:
    """Two tenants' tickets, in the index; beside them those of a third, with the same words."""
    with module_database.on_one_connection():
        for tenant_id, language, pairs in (
            ("en", "english", ENGLISH),
            ("de", "german", GERMAN),
            ("x", "simple", ENGLISH),
        ):
            tickets_found.add_tenant(module_database, tenant_id, language)
            tickets = [Ticket(f"{tenant_id}{number}", text) for number, (text, _) in enumerate(pairs)]
            tickets_found.add(module_database, tenant_id, *tickets, Ticket("late", "nothing of these"))
        tickets_found.index(module_database)
        yield module_database


@pytest.mark.parametrize(
    ("tenant_id", "number", "typed"),
    [
        (tenant_id, number, typed)
        for tenant_id, pairs in (("en", ENGLISH), ("de", GERMAN))
        for number, (_, typed) in enumerate(pairs)
    ],
)
def test_a_ticket_is_found_by_what_people_type(database: Database, tenant_id: str, number: int, typed: str) -> None:
    answer = tickets_found.ask(database, tenant_id, typed)
    assert answer.ids[:1] == [f"{tenant_id}{number}"]
    assert answer.tickets[0]["matched"] == [typed]


@pytest.mark.parametrize(("text", "typed"), ENGLISH)
def test_a_ticket_that_is_not_in_the_index_yet_is_found_by_the_same(database: Database, text: str, typed: str) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        tickets_found.add(database, "en", Ticket("new", text))
        assert "new" in tickets_found.ask(database, "en", typed).ids


@pytest.mark.parametrize(
    "text",
    [
        "the of and", "...", "---", "_", "& | ! :* <-> ( )", "foo:*&!bar|'", "\u202e\u200f", "🙂🙃", "\x01\x02", "'", "\\",
        "%", "_%_", "0x", "v.", "1.", ".1", "a.b.c.d.e", "-._-._", "x" * 10_000, "打" * 10_000, "9." * 5_000,
        "a-" * 5_000, "\ufeff", "é" * 3_000, "ﷺ" * 500, "1e400", "٠١٢", "\U000e0001", "\U0010fffd",
    ],
)  # fmt: skip
def test_no_text_is_refused(database: Database, text: str) -> None:
    """As a question or as a ticket."""
    tickets_found.ask(database, "en", text[:10_000])
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        tickets_found.add(database, "en", Ticket("odd", text), Ticket("plain", "quintessence"))
        tickets_found.ask(database, "en", text[:10_000])
        tickets_found.index(database)
        assert tickets_found.ask(database, "en", "quintessence").ids == ["plain"]
        tickets_found.ask(database, "en", text[:10_000])


def test_a_sign_of_letters_is_no_part_of_the_word_before_it(database: Database) -> None:
    """NFKC makes "TM" of it."""
    answer = tickets_found.ask(database, "en", "Xenplan\u2122")
    assert [one["matched"] for one in answer.tickets] == [["Xenplan"]]


def test_what_was_typed_is_shown_where_a_letter_before_it_has_a_lower_case_of_two(database: Database) -> None:
    """The Turkish capital I with a dot, in Unicode's own rules, which Postgres 15 to 17 have by ICU."""
    answer = tickets_found.ask(database, "en", "İZMİR-explorer")
    assert [one["matched"] for one in answer.tickets] == [["explorer"]]


BACKSLASHES_ESCAPE = "-c standard_conforming_strings=off"  # a role may have it; functions read their patterns by it


def test_a_session_in_which_backslashes_escape_finds_the_same(database: Database) -> None:
    asked = "打印机 and 9.1.4"
    with psycopg.connect(database.url, options=BACKSLASHES_ESCAPE) as session:
        found = session.execute(tickets_found.ASK, ("en", None, asked, 50, None, None, None, None)).fetchone()
        assert found
        assert [one["ticket_id"] for one in found[2]] == tickets_found.ask(database, "en", asked).ids != []


def test_a_session_in_which_backslashes_escape_makes_the_same_words(database: Database) -> None:
    with psycopg.connect(database.url, options=BACKSLASHES_ESCAPE) as session:
        session.execute(tickets_found.ADD, ("en", "new", "打印机坏了", "Mended.", "2024-01-01", "High", []))
        session.execute("SELECT search_index_batch(100)")
        assert session.execute("SELECT FROM search_words WHERE word = '坏了'").fetchall()
        session.rollback()


def test_what_is_found_by_a_longer_word_weighs_less(database: Database) -> None:
    with database.on_one_connection() as connection, connection.transaction(force_rollback=True):
        tickets = [Ticket("whole", "Fahrzeug defekt"), Ticket("longer", "Fahrzeugpark defekt")]
        tickets_found.add(database, "de", *tickets)
        for _ in ("before it is indexed", "after it"):
            answer = tickets_found.ask(database, "de", "Fahrzeug")
            assert answer.ids == ["whole", "longer"]
            assert answer.scores["longer"] < answer.scores["whole"] / 2
            assert [one["matched"] for one in answer.tickets] == [["Fahrzeug"]] * 2
            tickets_found.index(database)


def test_the_words_that_a_ticket_was_found_by_are_as_typed_and_the_rarest_first(database: Database) -> None:
    answer = tickets_found.ask(database, "en", "It CRASHES: Spoolsv.exe in System32")
    assert answer.tickets[0]["matched"][0] == "Spoolsv.exe"
    assert {"CRASHES", "System32"} < set(answer.tickets[0]["matched"])
    assert set(answer.tickets[1]["matched"]) == {"CRASHES", "System32", "exe"}
