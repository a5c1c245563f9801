"""Where is the SQL? Only in this package: one module per table, with its columns and every statement on it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    metadata: MetaData


def __getattr__(name: str) -> Any:  # noqa: ANN401  (as PEP 562 has it)
    """Make `metadata`, the tables' collection, when it is first asked for.

    A command that only reads has no use for SQLAlchemy, and would spend most of its time on importing it.
    """
    if name != "metadata":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sqlalchemy import MetaData  # noqa: PLC0415

    globals()["metadata"] = made = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        }
    )
    return made
