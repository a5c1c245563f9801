"""Which rows does an XLSX file hold, however the program that wrote it spells them?"""

from pathlib import Path
from zipfile import ZipFile

import pytest

from app.importing.spreadsheet import Spreadsheet, column_of
from tests.importing.reports import HEADER, ZONE, dry_run, ticket
from tests.support import xlsx

pytestmark = pytest.mark.one_postgres


def texts(file: Path, sheet: int = 0) -> list[dict[int, str]]:
    """Return the texts of a sheet's rows by their columns."""
    with file.open("rb") as opened, Spreadsheet(opened, 10_000) as book:
        return [{at: cell.text for at, cell in row.cells.items()} for row in book.rows(book.sheets[sheet])]


@pytest.mark.parametrize("is_shared", [False, True])
def test_texts_are_those_that_a_cell_shows(is_shared: bool, tmp_path: Path) -> None:  # noqa: FBT001
    rows: list[list[str | None]] = [
        ["a & <b>", "two\nlines", " blanks "],
        [None, "_x000D_", "_xD83D__xDE00_", "_x005F_x000D_", "_xD83D_"],
    ]
    file = xlsx.write(tmp_path / "f.xlsx", rows, is_shared=is_shared)
    assert texts(file) == [
        {0: "a & <b>", 1: "two\nlines", 2: " blanks "},
        {1: "\r", 2: "😀", 3: "_x000D_", 4: "\ufffd"},
    ]


def test_runs_of_a_text_are_joined_and_its_reading_is_left_out(tmp_path: Path) -> None:
    run = b'<is><r><t>on</t></r><r><t>e</t></r><rPh sb="0"><t>READING</t></rPh></is>'
    strings = b"<sst><si>" + run[4:-5] + b"</si></sst>"
    cells = [[b'<c r="@" t="inlineStr">' + run + b"</c>", b'<c r="@" t="s"><v>0</v></c>']]
    file = xlsx.write(tmp_path / "f.xlsx", cells, parts={"xl/sharedStrings.xml": strings})
    assert texts(file) == [{0: "one", 1: "one"}]


def test_prefixes_formulas_and_cells_without_a_place(tmp_path: Path) -> None:
    rows = (
        b'<x:row><x:c><x:f>1+1</x:f><x:v>2</x:v></x:c><x:c t="str"><x:v>two</x:v></x:c><x:c/><x:c t="b"><x:v>1</x:v></x:c>'
        b'</x:row><x:row r="7"><x:c r="AB7"><x:v>3</x:v></x:c><x:c r="7"><x:v>4</x:v></x:c></x:row>'
    )
    sheet = b'<x:worksheet xmlns:x="x"><x:sheetData>' + rows + b"</x:sheetData></x:worksheet>"
    file = xlsx.write(tmp_path / "f.xlsx", [], parts={"xl/worksheets/sheet1.xml": sheet})
    assert texts(file) == [{0: "2", 1: "two", 3: "1"}, {27: "3"}]


def test_parts_may_be_named_as_windows_has_it(tmp_path: Path) -> None:
    """So some programs of .NET do, in spite of the ZIP specification; Excel opens them."""
    xlsx.write(tmp_path / "f.xlsx", [["a"], ["b"]], is_shared=True)
    with ZipFile(tmp_path / "f.xlsx") as ours, ZipFile(tmp_path / "windows.xlsx", "w") as theirs:
        for name in ours.namelist():
            theirs.writestr(name.replace("/", "\\"), ours.read(name))
    assert texts(tmp_path / "windows.xlsx") == [{0: "a"}, {0: "b"}]


@pytest.mark.parametrize(("is_1904", "first"), [(False, "1900-03-01T12:00:00"), (True, "1904-03-02T12:00:00")])
def test_numbers_that_a_style_shows_as_dates(is_1904: bool, first: str, tmp_path: Path) -> None:  # noqa: FBT001
    """The built-in formats and those of the file; a colour or a text within a format is no sign of a date."""
    formats = {164: "[Red]0.00", 165: '0 "days"', 166: "[h]:mm", 167: "yyyy\\-mm", 168: "0;dd"}
    listed = "".join(f"<numFmt numFmtId='{at}' formatCode='{code}'/>" for at, code in formats.items())
    used = "".join(f"<xf numFmtId='{at}'/>" for at in (0, 14, 22, *formats))
    styles = f"<styleSheet><numFmts>{listed}</numFmts><cellXfs>{used}</cellXfs></styleSheet>"
    book = f'<workbook xmlns:r="r"><workbookPr date1904="{is_1904:d}"/><sheets><sheet name="x" r:id="r1"/></sheets></workbook>'
    cells = [[f'<c r="@" s="{style}"><v>61.5</v></c>'.encode() for style in range(8)]]
    parts = {"xl/styles.xml": styles.encode(), "xl/workbook.xml": book.encode()}
    [row] = texts(xlsx.write(tmp_path / "f.xlsx", cells, parts=parts))
    assert [at for at, text in row.items() if text == first] == [1, 2, 5, 6]
    assert set(row.values()) == {first, "61.5"}


def test_a_hidden_sheet_is_not_read(tmp_path: Path) -> None:
    book = (
        '<workbook xmlns:r="r"><sheets><sheet name="old" state="hidden" r:id="r9"/><sheet name="chart" r:id="r8"/>'
        '<sheet name="new" r:id="r1"/></sheets></workbook>'
    )
    file = xlsx.write(tmp_path / "f.xlsx", [["a"]], parts={"xl/workbook.xml": book.encode()})
    assert texts(file) == [{0: "a"}]


def test_columns_are_counted_by_their_letters() -> None:
    assert [column_of(at) for at in ("A1", "Z9", "AA10", "XFD1")] == [0, 25, 26, 16_383]
    assert column_of("7") == column_of("é1") == 16_384
    assert column_of("ZZZZ1") > 16_384


def test_sheets_that_are_not_read_are_named(tmp_path: Path) -> None:
    """A report of many rows may go on in another sheet; a hidden one is none of it."""
    names = ["Report", "Report_2", "Cover", "hidden"]
    state = {"hidden": ' state="hidden"'}
    listed = "".join(f'<sheet name="{name}"{state.get(name, "")} r:id="r1"/>' for name in names)
    book = f'<workbook xmlns:r="{xlsx.KINDS}"><sheets>{listed}</sheets></workbook>'
    file = xlsx.write(tmp_path / "f.xlsx", [HEADER, ticket("1")], parts={"xl/workbook.xml": book.encode()})
    done = dry_run(file, None, *ZONE)
    assert "\n  sheets not read: “Report_2”, “Cover” (if the report goes on there, export it as CSV)\n" in done.stdout
