"""What does a migration take away from a schema, or make stricter, that the version before it relies on?"""

import re
from typing import Any

from tests.support.system import Database

# Each row is an object: its kind, its name, the table that it is on (null if none), and what the version before sees of it.
OBJECTS = {
    "relation": "SELECT oid::regclass::text AS name, NULL AS on, relkind::text AS text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace = current_schema()::regnamespace",
    "column": """SELECT attrelid::regclass || '.' || attname AS name, attrelid::regclass::text AS on, format_type(atttypid, atttypmod) AS text
        FROM pg_attribute JOIN pg_class ON oid = attrelid WHERE relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped AND relnamespace = current_schema()::regnamespace""",
    "default": """SELECT attrelid::regclass || '.' || attname AS name, attrelid::regclass::text AS on, '' AS text
        FROM pg_attribute JOIN pg_class ON oid = attrelid WHERE (atthasdef OR attidentity <> '') AND NOT attisdropped AND relnamespace = current_schema()::regnamespace""",
    "NOT NULL": """SELECT attrelid::regclass || '.' || attname AS name, attrelid::regclass::text AS on, '' AS text
        FROM pg_attribute JOIN pg_class ON oid = attrelid WHERE relkind IN ('r', 'p') AND attnum > 0 AND attnotnull AND NOT attisdropped AND relnamespace = current_schema()::regnamespace""",
    "constraint": """SELECT conrelid::regclass || ' ' || conname AS name, conrelid::regclass::text AS on, pg_get_constraintdef(pg_constraint.oid) AS text
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE contype <> 'n' AND relnamespace = current_schema()::regnamespace""",
    "unique index": """SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS on, pg_get_indexdef(indexrelid) AS text
        FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisunique AND relnamespace = current_schema()::regnamespace""",
    "trigger": """SELECT tgrelid::regclass || ' ' || tgname AS name, tgrelid::regclass::text AS on,
               pg_get_triggerdef(pg_trigger.oid) || CASE WHEN prosecdef THEN ' AS OWNER' ELSE '' END AS text
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace""",
    "row-level security": "SELECT oid::regclass::text AS name, oid::regclass::text AS on, '' AS text FROM pg_class WHERE relrowsecurity AND relnamespace = current_schema()::regnamespace",
    "function": """SELECT oid::regprocedure::text AS name, NULL AS on, pg_get_function_result(oid) || pg_get_function_arguments(oid) AS text
        FROM pg_proc WHERE pronamespace = current_schema()::regnamespace""",
    "type": "SELECT typname::text AS name, NULL AS on, '' AS text FROM pg_type WHERE typnamespace = current_schema()::regnamespace",
    "enum label": """SELECT enumtypid::regtype || ' ' || enumlabel AS name, NULL AS on, '' AS text
        FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid WHERE typnamespace = current_schema()::regnamespace""",
}  # fmt: skip
STRICTER = (
    "NOT NULL",
    "constraint",
    "unique index",
    "trigger",
    "row-level security",
)  # new on a table that was there; each may go

Objects = dict[tuple[str, str], dict[str, Any]]


def read(database: Database) -> Objects:
    """Return every object of the schema by its kind and name."""
    with database.on_one_connection():
        return {(kind, row["name"]): row for kind, query in OBJECTS.items() for row in database.query(query)}


def no_additions(before: Objects, after: Objects) -> list[str]:
    """Return what a migration changed between two `read`s, other than by adding what the version before can ignore."""
    tables = {name for kind, name in before if kind == "relation"}
    gone = [key for key in before if key not in after and key[0] not in STRICTER]
    changed = [key for key in before if key in after and not loosened(before[key]["text"], after[key]["text"])]
    stricter = [key for key in after if key not in before and key[0] in STRICTER and after[key]["on"] in tables]
    found = [(word, *key) for word, keys in (("gone", gone), ("changed", changed), ("new", stricter)) for key in keys]
    return [
        " ".join(one)
        for one in found
        if not is_new_column_with_default(one, before, after) and not is_trigger_that_only_notes(one, after)
    ]


def loosened(before: str, after: str) -> bool:
    """Return True if nothing changed, or a list of allowed values has the same ones and more."""
    values = [set(re.findall(r"'[^']*'", text)) for text in (before, after)]
    around = [re.sub(r"'[^']*'(::text)?(, )?", "", text) for text in (before, after)]
    return before == after or (before.startswith("CHECK") and around[0] == around[1] and values[0] <= values[1])


def is_new_column_with_default(found: tuple[str, str, str], before: Objects, after: Objects) -> bool:
    """Return True for NOT NULL on a new column that has a default: the version before can leave it out."""
    word, kind, name = found
    return (word, kind) == ("new", "NOT NULL") and ("column", name) not in before and ("default", name) in after


def is_trigger_that_only_notes(found: tuple[str, str, str], after: Objects) -> bool:
    """Return True for a new trigger that runs after what fires it, as its owner: what is written stays, whoever writes."""
    word, kind, name = found
    text = after[kind, name]["text"] if word == "new" and kind == "trigger" else ""
    return " AFTER " in text.partition(" ON ")[0] and text.endswith(" AS OWNER")
