"""Which kinds of failure does Postgres have, what is each in words, and what is done about it?

docs/operations.md lists them by name. Source of the codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A kind of failure: `name` in docs/operations.md, `what` it is, and the `cure`."""

    name: str
    what: str
    cure: str


AWAY = Kind("away", "Postgres cannot be reached", "Start it, or set DATABASE_URL to where it is")
SILENT = Kind("silent", "Postgres does not answer", "Look at the network between us, and at what Postgres waits for")
CUT = Kind("cut", "the connection to Postgres broke", "Try again; if it goes on, look at Postgres' log")
RESTARTING = Kind("restarting", "Postgres is starting or stopping", "Wait until it is up")
READ_ONLY = Kind(
    "read-only",
    "Postgres takes no writes now",
    "Let DATABASE_URL lead to the primary; if it does, see whether Postgres is out of disk or was set read-only",
)
UNKNOWN_HOST = Kind("unknown-host", "the host of DATABASE_URL has no address", "Correct its name, or the name service")
NO_DATABASE = Kind("no-database", "the database does not exist", "Create it, or name another in DATABASE_URL")
PASSWORD = Kind(
    "password",
    "Postgres refuses the password",
    "Correct it in DATABASE_URL or in the passfile; each new connection reads the passfile again",
)
NOT_ADMITTED = Kind("not-admitted", "Postgres does not let this role in", "See pg_hba.conf, the role and its limits")
TLS = Kind(
    "tls", "the encrypted connection to Postgres fails", "See sslmode and sslrootcert in docs/managed-postgres.md"
)
NO_FILE = Kind("no-file", "a file that DATABASE_URL needs cannot be read", "Correct its path, or who may read it")
URL = Kind("url", "DATABASE_URL cannot be used", "See docs/managed-postgres.md for what it may hold")
SESSION = Kind("session", "the database or role is not set up as we need it", "See docs/managed-postgres.md")
NO_SCHEMA = Kind(
    "no-schema",
    "the database has no schema yet, or not where the role's search_path leads",
    "Run `ticket-inbox migrate`",
)
SCHEMA_RIGHT = Kind(
    "schema-right",
    "the role may not use or create anything in the schema",
    "Its owner grants it: GRANT USAGE, CREATE ON SCHEMA … TO …; or let DATABASE_URL name the schema's owner",
)
DATABASE_RIGHT = Kind(
    "database-right",
    "the role may not do that in this database",
    "Its owner grants it: GRANT CONNECT, CREATE ON DATABASE … TO …",
)
RIGHT = Kind(
    "right",
    "the role has no right to do that",
    "Run `ticket-inbox roles make` as the owner of the tables, or let DATABASE_URL name that owner",
)
DISK_FULL = Kind("disk-full", "Postgres has no disk left", "Give it more, or delete what it can do without")
TOO_MANY = Kind(
    "too-many",
    "Postgres has no connection left",
    "Raise its max_connections or the role's limit, or lower SERVER_CONNECTIONS, SEARCH_POOL_SIZE, WORKER_CONCURRENCY "
    "or the processes",
)
POOL_USED_UP = Kind(
    "pool-used-up",
    "all connections of this process are in use",
    "See what Postgres waits for, or raise SERVER_CONNECTIONS",
)
RESOURCES = Kind("resources", "Postgres is out of memory or another resource", "See its log")
NOTIFICATIONS = Kind(
    "notifications",
    "Postgres' queue of notifications is full, and without one it takes no job",
    "Postgres' log names a process that listens and does not read: end it by pg_terminate_backend",
)
SERIALIZATION = Kind("serialization", "Postgres gave way to another transaction", "Try again")
LOCKED = Kind("locked", "another session holds a lock", "`ticket-inbox status` names it; wait for it, or end it")
CANCELLED = Kind(
    "cancelled", "Postgres cancelled the statement", "See what it waited for, and the role's statement_timeout"
)
POOLER = Kind(
    "pooler", "a pooler between us and Postgres does not pass this on", "See PgBouncer in docs/managed-postgres.md"
)
ENCODING = Kind("encoding", "Postgres cannot store this text", "Use a database whose encoding is UTF8")
VALUE = Kind("value", "Postgres refuses a value", "See the reason")
FILES = Kind("storage", "Postgres cannot read or write its files", "See its log, and its disk, before anything else")
OTHER = Kind("other", "Postgres reports an error", "See Postgres' log")

# By SQLSTATE: the longest prefix that fits counts.
BY_SQLSTATE = {
    "08": CUT,
    "22": VALUE,
    "22021": ENCODING,
    "22P05": ENCODING,
    "23": VALUE,
    "25006": READ_ONLY,
    "25P03": CUT,
    "25P04": CUT,
    "26000": POOLER,
    "28": NOT_ADMITTED,
    "28P01": PASSWORD,
    "3D000": NO_DATABASE,
    "3F000": NO_SCHEMA,
    "40": SERIALIZATION,
    "42501": RIGHT,
    "42703": NO_SCHEMA,
    "42883": NO_SCHEMA,
    "42P01": NO_SCHEMA,
    "42P05": POOLER,
    "53": RESOURCES,
    "53100": DISK_FULL,
    "53300": TOO_MANY,
    "54": VALUE,
    "55P03": LOCKED,
    "57014": CANCELLED,
    "57P": CUT,
    "57P03": RESTARTING,
    "57P04": NO_DATABASE,
    "58": FILES,
    "XX": FILES,
}

# By SQLSTATE and words of Postgres, where the code says too little.
BY_BOTH = [
    ("08P01", "unsupported startup parameter", POOLER),
    ("28000", "no encryption", TLS),
    ("40001", "conflict with recovery", READ_ONLY),
    ("42501", "permission denied for schema", SCHEMA_RIGHT),
    ("42501", "permission denied for database", DATABASE_RIGHT),
    ("42704", 'type "', NO_SCHEMA),
    ("54000", "notify queue", NOTIFICATIONS),
    ("55000", "recovery", READ_ONLY),
]

# By words, lower case, of what has no code: psycopg reports only Postgres' words of a connection that was refused. The
# first that stands in the error counts.
BY_WORDS = [
    ("is in recovery", READ_ONLY),
    ("recovery is in progress", READ_ONLY),
    ("during recovery", READ_ONLY),
    ("read-only transaction", READ_ONLY),
    ("session is read-only", READ_ONLY),
    ("none of the hosts match", READ_ONLY),
    ("unsupported startup parameter", POOLER),
    ("password authentication failed", PASSWORD),
    ("no password supplied", PASSWORD),
    ("password is not assigned", PASSWORD),
    ("too many connections", TOO_MANY),
    ("too many clients", TOO_MANY),
    ("connection slots are reserved", TOO_MANY),
    ("no encryption", TLS),
    ("no pg_hba.conf entry", NOT_ADMITTED),
    ("pg_hba.conf rejects", NOT_ADMITTED),
    ("is not permitted to log in", NOT_ADMITTED),
    ("is starting up", RESTARTING),
    ("is shutting down", RESTARTING),
    ("not yet accepting connections", RESTARTING),
    ("could not translate host name", UNKNOWN_HOST),
    ("name or service not known", UNKNOWN_HOST),
    ("failed to resolve host", UNKNOWN_HOST),
    ("certificate", TLS),
    ("ssl", TLS),
    ("connection refused", AWAY),
    ("is the server running", AWAY),
    ("network is unreachable", AWAY),
    ("no route to host", AWAY),
    ("timeout expired", SILENT),
    ("timed out", SILENT),
    ("couldn't get a connection", SILENT),
    ("consuming input failed", CUT),
    ("is already closed", CUT),
    ("closed the connection unexpectedly", CUT),
    ("connection was closed", CUT),
    ("connection is closed", CUT),
    ("the connection is lost", CUT),
    ('fatal:  database "', NO_DATABASE),
    ('fatal:  role "', NOT_ADMITTED),
    ("invalid connection option", URL),
    ("invalid dsn", URL),
]
