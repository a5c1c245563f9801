"""An XLSX file that is hostile, damaged or something else ends the import in one line, and takes little memory."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import pytest

from app.importing import workbook
from tests.importing.reports import HEADER, ZONE, as_csv, dry_run, ticket
from tests.support import peak_memory, xlsx

pytestmark = pytest.mark.one_postgres

SHEET = "xl/worksheets/sheet1.xml"
MEGABYTES = 300
WHEN = datetime(2023, 7, 15, 14, 30)  # noqa: DTZ001  (a cell has no zone)


def in_one_line(file: Path, *more: str) -> str:
    """Return the one line that a dry run ends with, without having imported anything."""
    done = dry_run(file, None, *ZONE, *more)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


def with_parts(file: Path, parts: Mapping[str, Iterable[bytes]]) -> Path:
    """Write a file, with parts that are written piece by piece in place of ours."""
    xlsx.write(file, [HEADER], parts=dict.fromkeys(parts, b""))
    kept = file.with_suffix(".kept")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for one in set(old.namelist()) - set(parts):
            new.writestr(one, old.read(one))
        for name, pieces in parts.items():
            with new.open(name, "w", force_zip64=True) as content:
                content.writelines(pieces)
    return kept.rename(file)


def sheet_of(*rows: bytes) -> bytes:
    """Return the XML of a sheet that has the header, and these cells below it."""
    header = b"".join(b'<c t="inlineStr"><is><t>%s</t></is></c>' % name.encode() for name in HEADER)
    return b"<worksheet><sheetData>" + b"".join(b"<row>%s</row>" % row for row in (header, *rows)) + END


END = b"</sheetData></worksheet>"
GOOD = b"".join(b'<c t="inlineStr"><is><t>%s</t></is></c>' % str(one).encode() for one in ticket(1, None)[:6])
GOOD += b'<c t="d"><v>2023-07-15T14:30:00</v></c>'


def test_a_cell_of_100_mb_is_a_bad_line_and_takes_little_memory(tmp_path: Path) -> None:
    """So is one among the shared texts; the tickets around them go in."""
    before, after = sheet_of(GOOD, b'<c t="inlineStr"><is><t>@</t></is></c>', b'<c t="s"><v>0</v></c>', GOOD).split(
        b"@"
    )
    text = [b"x" * 1024 * 1024] * 100
    parts = {SHEET: [before, *text, after], "xl/sharedStrings.xml": [b"<sst><si><t>", *text[:2], b"</t></si></sst>"]}
    file = with_parts(tmp_path / "f.xlsx", parts)
    megabytes, done = peak_memory.run(["import", "--tenant", "acme", "--file", str(file), "--dry-run", *ZONE])
    assert "line 3: it is longer than 1,048,576 characters (MAX_BODY_BYTES)\n" in done.stderr
    assert "line 4: it is longer than 1,048,576 characters (MAX_BODY_BYTES)\n" in done.stderr
    assert "4 lines read: 2 good, 2 skipped\n" in done.stdout
    assert megabytes < MEGABYTES


def test_a_cell_of_csv_that_is_too_long_is_one_bad_line(tmp_path: Path) -> None:
    long = ticket("2", Description="a line\n" * 150_000 + 'a "word"\n')
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1"), long, ticket("3")]), *ZONE)
    assert done.stdout.endswith("3 lines read: 2 good, 1 skipped\n")
    assert done.stderr.startswith("line 3 to 150004: it is no row of CSV: field larger than field limit")


def test_a_line_of_csv_that_is_too_long_costs_no_other_line(tmp_path: Path) -> None:
    """Neither a line of its own, nor one within a cell that is too long before it comes."""
    words = "it is longer than 1,048,576 bytes (MAX_BODY_BYTES)\n"
    done = dry_run(
        tmp_path / "f.csv", as_csv([ticket("1"), ticket("2", Description="x" * 1_100_000), ticket("3")]), *ZONE
    )
    assert f"line 3: {words}" in done.stderr
    assert done.stdout.endswith("3 lines read: 2 good, 1 skipped\n")
    long = ticket("2", Description="a line\n" * 150_000 + "x" * 1_100_000)
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1"), long, ticket("3")]), *ZONE)
    assert "line 3 to 150003: it is no row of CSV: field larger than field limit" in done.stderr
    assert done.stdout.endswith("3 lines read: 2 good, 1 skipped\n")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    pieces = [sheet_of(GOOD).removesuffix(END), *[b"<row/>" * 200_000] * 230, END]
    error = in_one_line(with_parts(tmp_path / "f.xlsx", {SHEET: pieces}))
    assert "bytes that unpack to 276," in error
    assert "a zip bomb?" in error


ENTITY = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname"><!ENTITY b "&a;&a;&a;">]>'
HOSTILE: dict[str, tuple[bytes, str]] = {
    "an entity": (ENTITY + sheet_of(GOOD.replace(b"VPN drops", b"&b;")), "the file's XML has a document type (DTD)"),
    "a tag without end": (sheet_of(GOOD).removesuffix(END) + b'<c x="' + b"x" * 3_000_000, "a tag in xl/worksheets/sheet1.xml is longer"),
    "half of it": (sheet_of(GOOD)[:-20], "the file is damaged, or no XLSX file: xl/worksheets/sheet1.xml: unclosed token"),
    "no XML": (b"x", "the file is damaged, or no XLSX file: "),
    "a text that is not there": (sheet_of(b'<c t="s"><v>7</v></c>'), "row 2 names a text that it does not have"),
    "nothing": (b"<worksheet/>", "the first line must name the columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_or_damaged_xml_ends_it_in_one_line(name: str, tmp_path: Path) -> None:
    content, words = HOSTILE[name]
    assert words in in_one_line(xlsx.write(tmp_path / "f.xlsx", [], parts={SHEET: content}))


def test_macros_are_never_read(tmp_path: Path) -> None:
    file = xlsx.write(tmp_path / "f.xlsm", [HEADER, ticket("1", WHEN)], parts={"xl/vbaProject.bin": b"\xff" * 100})
    assert dry_run(file, None, *ZONE).stdout.endswith("1 lines read: 1 good, 0 skipped\n")


def test_what_another_part_names_outside_the_file_is_not_asked_for(tmp_path: Path) -> None:
    outside = xlsx.RELATION.format("r1", "worksheet", "http://127.0.0.1:9/x").replace("/>", ' TargetMode="External"/>')
    parts = {"xl/_rels/workbook.xml.rels": xlsx.RELATIONS.format(outside).encode()}
    assert "the file has no sheet with rows" in in_one_line(xlsx.write(tmp_path / "f.xlsx", [], parts=parts))


def test_what_is_no_xlsx_file_is_named(tmp_path: Path) -> None:
    whole = xlsx.write(tmp_path / "f.xlsx", [HEADER, ticket("1", WHEN)]).read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("word/document.xml", "<x/>")
    password, damaged = "encrypted with a password: save it without one", "the file is damaged, or no XLSX file: "
    files = {
        workbook.OLE + b"." * 5000 + "EncryptedPackage".encode("utf-16-le") + b"." * 5000: password,
        workbook.OLE + b"Workbook": "Excel's form before 2007 (.xls)",
        whole[: len(whole) // 2]: damaged,
        whole[:4] + b"x" * 100: damaged,
        archive.getvalue(): "it has no workbook",
        b"\n<html><table>": "the file is a web page or XML",
        b"\xef\xbb\xbf\r\n<html><table>": "the file is a web page or XML",
        "<html><table>".encode("utf-16"): "the file is a web page or XML",
        "RequestID".encode("utf-16-le"): "UTF-16 without a mark: export the report as XLSX, or as CSV in UTF-8",
        b"RequestID;L\xf6sung\n": "no line names the columns, and line 1 cannot be read: it is not UTF-8: export",
        b"": "the first line must name the columns, but the file is empty",
    }
    for content, words in files.items():
        (tmp_path / "f.xlsx").write_bytes(content)
        assert words in in_one_line(tmp_path / "f.xlsx"), words


def test_a_part_with_a_password_is_named(tmp_path: Path) -> None:
    whole = xlsx.write(tmp_path / "f.xlsx", [HEADER, ticket("1", WHEN)]).read_bytes()
    flagged, at = bytearray(whole), whole.index(b"PK\x01\x02")
    while at >= 0:
        flagged[at + 8] |= 1
        at = whole.find(b"PK\x01\x02", at + 1)
    (tmp_path / "f.xlsx").write_bytes(flagged)
    assert "encrypted with a password: save it without one" in in_one_line(tmp_path / "f.xlsx")


def test_an_archive_of_very_many_parts_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_PARTS", 200)
    file = xlsx.write(tmp_path / "f.xlsx", [HEADER])
    assert "an archive of very many parts" in in_one_line(file)
