"""What does an operator say of a report that is imported? The options `--map`, `--date-format` and `--time-zone`."""

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

if TYPE_CHECKING:
    from app.importing.terms import Wanted


class Zone(click.ParamType[ZoneInfo]):
    """A time zone of IANA's, such as Europe/Berlin."""

    name = "zone"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        """Return the zone; ends the command where there is none of that name."""
        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(
                f"there is no time zone {value} on this machine: give one of IANA's, such as Europe/Berlin or UTC "
                "(`pip install tzdata`, if the machine has none at all)",
                param,
                ctx,
            )


class DateFormat(click.ParamType[str]):
    """How dates are written, in strptime's directives."""

    name = "format"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the format; ends the command where it does not say day, month and year."""
        from app.importing import dates  # noqa: PLC0415  (--help is instant)

        if not dates.is_format(str(value)):
            self.fail("it must say day, month and year by strptime's directives, as '%d-%m-%Y %H:%M' does", param, ctx)
        return str(value)


class ColumnOf(click.ParamType[tuple[str, str]]):
    """A column's name and the member of the ticket that it holds, as COLUMN=MEMBER."""

    name = "column=member"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the column's name and the member; ends the command where there is no such member."""
        from app.importing.columns import MEMBERS  # noqa: PLC0415

        if isinstance(value, tuple):
            return value
        column, _, member = str(value).rpartition("=")
        if not column.strip() or member.strip() not in MEMBERS:
            self.fail(f"it must be COLUMN=MEMBER, where MEMBER is one of {', '.join(MEMBERS)}", param, ctx)
        return column.strip(), member.strip()


def wanted_of(columns: tuple[tuple[str, str], ...], date_formats: tuple[str, ...], zone: ZoneInfo | None) -> "Wanted":
    """Return what the options say of a report. Raises UsageError where a column or a member is given twice."""
    from app.importing.columns import plain  # noqa: PLC0415
    from app.importing.terms import Wanted  # noqa: PLC0415

    mapped = {plain(column): member for column, member in columns}
    if len(mapped) < len(columns) or len(set(mapped.values())) < len(columns):
        raise click.UsageError("--map: give each column and each member once")
    return Wanted(mapped, date_formats, zone)
