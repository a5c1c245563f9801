"""An XLSX file as ServiceDesk Plus, Excel or somebody hostile would write it, part by part and without a library."""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELATION = '<Relationship Id="{}" Type="' + KINDS + '/{}" Target="{}"/>'
RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
STYLES = (
    f'<styleSheet xmlns="{MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="dd-mm-yyyy hh:mm"/></numFmts>'
    '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs></styleSheet>'
)
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    + "".join(
        f'<Override PartName="/xl/{part}.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.{kind}+xml"/>'
        for part, kind in (("workbook", "sheet.main"), ("worksheets/sheet1", "worksheet"), ("styles", "styles"), ("sharedStrings", "sharedStrings"))
    )
    + "</Types>"
)  # fmt: skip
Cell = str | int | float | datetime | bytes | None  # bytes: the cell's own XML


def write(
    file: Path, rows: Iterable[Sequence[Cell]], *, is_shared: bool = False, parts: dict[str, bytes] | None = None
) -> Path:
    """Write a file with one sheet; texts that `is_shared` are in a part of their own. `parts` come in place of ours."""
    texts: dict[str, int] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        own = parts or {}
        for name, content in {**_fixed(), **own}.items():
            archive.writestr(name, content)
        if "xl/worksheets/sheet1.xml" not in own:
            with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
                sheet.writelines(part.encode() for part in _sheet(rows, texts if is_shared else None))
        if texts:
            with archive.open("xl/sharedStrings.xml", "w", force_zip64=True) as strings:
                strings.write(f'<sst xmlns="{MAIN}">'.encode())
                strings.writelines(f'<si><t xml:space="preserve">{escape(text)}</t></si>'.encode() for text in texts)
                strings.write(b"</sst>")
    return file


def _fixed() -> dict[str, bytes]:
    workbook = f'<workbook xmlns="{MAIN}" xmlns:r="{KINDS}"><sheets><sheet name="Report" sheetId="1" r:id="r1"/></sheets></workbook>'
    own = [("r1", "worksheet", "worksheets/sheet1.xml"), ("r2", "styles", "styles.xml"), ("r3", "sharedStrings", "sharedStrings.xml")]  # fmt: skip
    parts = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": RELATIONS.format(RELATION.format("r1", "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": workbook,
        "xl/_rels/workbook.xml.rels": RELATIONS.format("".join(RELATION.format(*one) for one in own)),
        "xl/styles.xml": STYLES,
    }
    return {name: part.encode() for name, part in parts.items()}


def _sheet(rows: Iterable[Sequence[Cell]], texts: dict[str, int] | None) -> Iterator[str]:
    yield f'<worksheet xmlns="{MAIN}"><sheetData>'
    for number, row in enumerate(rows, 1):
        cells = "".join(_cell(f"{_letter(at)}{number}", cell, texts) for at, cell in enumerate(row))
        yield f'<row r="{number}">{cells}</row>'
    yield "</sheetData></worksheet>"


def _letter(column: int) -> str:
    return chr(65 + column) if column < 26 else _letter(column // 26 - 1) + chr(65 + column % 26)


def _cell(at: str, cell: Cell, texts: dict[str, int] | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode().replace("@", at)
    if isinstance(cell, datetime):
        days = (cell - datetime(1899, 12, 30)).total_seconds() / 86_400  # noqa: DTZ001
        return f'<c r="{at}" s="1"><v>{days!r}</v></c>'
    if isinstance(cell, int | float):
        return f'<c r="{at}"><v>{cell!r}</v></c>'
    if texts is None:
        return f'<c r="{at}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
    return f'<c r="{at}" t="s"><v>{texts.setdefault(cell, len(texts))}</v></c>'
