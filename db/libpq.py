"""Which parameters may DATABASE_URL hold, and what becomes of each?

The same is true of the `PG*` variable that stands for a parameter. Here is every parameter of libpq's, of its versions
15 to 18. psycopg takes them all, asyncpg a few: the others are translated for asyncpg in db/sessions.py, db/tls.py and
db/passfile.py, or refused, because the two drivers would otherwise reach Postgres in different ways.
docs/managed-postgres.md has this table, and a test compares the two.
"""

import re

import msgspec

PAGE = "docs/managed-postgres.md"
NEVER = "(?!)"  # no value matches
WHOLE = "-?[0-9]{1,9}"
UTF8 = "(?i:utf-?8|unicode|auto)"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter: the variable that stands for it, what becomes of it, and the pattern of the values it may have."""

    name: str
    variable: str
    becomes: str
    values: str = ".*"
    rule: str = ""  # what a value must be; for one that may not be given, why
    example: str = ""  # for the test that opens a session with it in each driver

    @property
    def is_refused(self) -> bool:
        """Whether no value is accepted."""
        return self.values == NEVER


def _refused(name: str, variable: str, why: str, example: str) -> Parameter:
    return Parameter(name, variable, "refused", NEVER, why, example)


def _one_of(name: str, variable: str, becomes: str, values: str, example: str) -> Parameter:
    return Parameter(name, variable, becomes, values, f"one of {values.replace('|', ', ')}", example)


def _whole(name: str, variable: str, becomes: str, example: str) -> Parameter:
    return Parameter(name, variable, becomes, WHOLE, "a whole number", example)


_ALONE = "only psycopg, the worker's driver, can follow it"
_GSS = "asyncpg, the server's driver, comes without GSSAPI (Kerberos)"
_OAUTH = "neither driver can log in by OAuth here"
_TLS = "TLSv1|TLSv1.1|TLSv1.2|TLSv1.3"

PARAMETERS = (
    Parameter("host", "PGHOST", "works; several hosts, comma separated, are tried in turn"),
    Parameter("hostaddr", "PGHOSTADDR", "works: the address to connect to; `host` is then the name in the certificate"),
    Parameter("port", "PGPORT", "works; one for all hosts, or one for each", "[0-9]{0,5}(,[0-9]{0,5})*", "ports"),
    Parameter("dbname", "PGDATABASE", "works; by default the user's name"),
    Parameter("user", "PGUSER", "works; by default the system user that the process runs as"),
    Parameter("password", "PGPASSWORD", "works"),
    Parameter("passfile", "PGPASSFILE", "works: it is read again for each new session, as `~/.pgpass` is"),
    _refused("require_auth", "PGREQUIREAUTH", f"{_ALONE}; sslmode=verify-full keeps false servers away",
             "scram-sha-256"),
    Parameter(
        "channel_binding", "PGCHANNELBINDING", "`disable` and `prefer` work; `require` is refused", "disable|prefer",
        "disable or prefer: asyncpg, the server's driver, binds no channel, and sslmode=verify-full keeps false "
        "servers away", "prefer",
    ),
    _whole("connect_timeout", "PGCONNECT_TIMEOUT", "works: seconds for each host, 5 by default; the server waits no "
           "longer than APPEND_TIMEOUT_SECONDS for all of them", "3"),
    Parameter("client_encoding", "PGCLIENTENCODING", "no effect: it is UTF8", UTF8, "UTF8", "utf8"),
    Parameter("options", "PGOPTIONS", "works, but for the settings that every session needs",
              example="-c search_path=public"),
    Parameter("application_name", "PGAPPNAME", "no effect: each process gives its own name", example="mine"),
    Parameter("fallback_application_name", "", "no effect: each process gives its own name", example="mine"),
    _one_of("keepalives", "", "works", "0|1", "1"),
    _whole("keepalives_idle", "", "works: seconds, 5 by default", "7"),
    _whole("keepalives_interval", "", "works: seconds, 2 by default", "3"),
    _whole("keepalives_count", "", "works: 5 by default", "4"),
    _whole("tcp_user_timeout", "", "works: milliseconds, 15000 by default", "9000"),
    _one_of("sslmode", "PGSSLMODE", "works", "disable|allow|prefer|require|verify-ca|verify-full", "prefer"),
    _one_of("sslnegotiation", "PGSSLNEGOTIATION", "works; `direct` needs Postgres 17 and sslmode=require or stricter",
            "postgres|direct", "postgres"),
    _one_of("sslcompression", "PGSSLCOMPRESSION", "no effect: no driver compresses", "0|1", "0"),
    Parameter("sslcert", "PGSSLCERT", "works; `~/.postgresql/postgresql.crt` by default"),
    Parameter("sslkey", "PGSSLKEY", "works; `~/.postgresql/postgresql.key` by default"),
    Parameter(
        "sslcertmode", "PGSSLCERTMODE", "`disable` and `allow` work; `require` is refused", "disable|allow",
        "disable or allow: asyncpg, the server's driver, cannot check whether it was asked for a certificate", "allow",
    ),
    Parameter("sslpassword", "", "works", example="unused"),
    Parameter(
        "sslrootcert", "PGSSLROOTCERT", "works; `~/.postgresql/root.crt` by default. `system` is this system's trust "
        "store (or SSL_CERT_FILE), with sslmode=verify-full",
    ),
    Parameter("sslcrl", "PGSSLCRL", "works; `~/.postgresql/root.crl` by default"),
    Parameter("sslcrldir", "PGSSLCRLDIR", "works"),
    _one_of("sslsni", "PGSSLSNI", "works; `0` not with sslmode=verify-full", "0|1", "1"),
    _refused("requirepeer", "PGREQUIREPEER", _ALONE, "postgres"),
    _one_of("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", "works; TLSv1.2 by default", _TLS, "TLSv1.2"),
    _one_of("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", "works", _TLS, "TLSv1.3"),
    Parameter(
        "min_protocol_version", "PGMINPROTOCOLVERSION", "`3.0` works; others are refused", "3[.]0",
        "3.0: asyncpg, the server's driver, speaks no later version", "3.0",
    ),
    _one_of("max_protocol_version", "PGMAXPROTOCOLVERSION", "works", "3.0|3.2|latest", "3.2"),
    Parameter(
        "gssencmode", "PGGSSENCMODE", "no effect: no session is encrypted by GSSAPI; `require` is refused",
        "disable|prefer", f"disable or prefer: {_GSS}", "disable",
    ),
    _refused("krbsrvname", "PGKRBSRVNAME", _GSS, "postgres"),
    _refused("gsslib", "PGGSSLIB", _GSS, "gssapi"),
    _refused("gssdelegation", "PGGSSDELEGATION", _GSS, "1"),
    _refused("service", "PGSERVICE", "only psycopg, the worker's driver, reads service files; give the service's "
             "parameters themselves", "tickets"),
    Parameter(
        "target_session_attrs", "PGTARGETSESSIONATTRS",
        "`any`, `read-write` and `primary` work, by default `read-write` among several hosts; others are refused",
        "any|read-write|primary", "any, read-write or primary: every process writes", "read-write",
    ),
    _one_of("load_balance_hosts", "PGLOADBALANCEHOSTS", "works", "disable|random", "random"),
    _refused("replication", "", "no process replicates", "database"),
    _refused("scram_client_key", "", "it is for postgres_fdw", "a2V5"),
    _refused("scram_server_key", "", "it is for postgres_fdw", "a2V5"),
    _refused("oauth_issuer", "", _OAUTH, "https://issuer.example"),
    _refused("oauth_client_id", "", _OAUTH, "id"),
    _refused("oauth_client_secret", "", _OAUTH, "secret"),
    _refused("oauth_scope", "", _OAUTH, "openid"),
    _refused("sslkeylogfile", "", "it would write each session's keys to a file", "/tmp/keys"),  # noqa: S108
)  # fmt: skip
KNOWN = {one.name: one for one in PARAMETERS}

# Variables that libpq alone reads, or that mean nothing here: each is taken away, and named in one line at the start.
IGNORED = {
    "PGAPPNAME": "each process gives its own application_name",
    "PGCLIENTENCODING": "every session is in UTF8",
    "PGDATESTYLE": "every session has DateStyle ISO",
    "PGTZ": "every session has TimeZone UTC",
    "PGGEQO": "PGOPTIONS='-c geqo=…' works",
    "PGSERVICEFILE": "service files are not read",
    "PGSYSCONFDIR": "service files are not read",
    "PGREQUIRESSL": "set PGSSLMODE=require",
    "PGLOCALEDIR": "it is of no use here",
}


class ParameterError(ValueError):
    """{source} {trouble}: it must be {rule}. It names the parameter, never its value, which may be a secret."""

    def __init__(self, source: str, trouble: str, rule: str) -> None:
        super().__init__(f"{source} {trouble}: it must be {rule}")
        self.source, self.trouble, self.rule = source, trouble, rule


def check(name: str, value: str, variable: str = "") -> None:
    """Check one parameter, given in DATABASE_URL or by the `variable` that stands for it. Raises ParameterError."""
    source, without = (variable, "unset") if variable else ("DATABASE_URL", "a URL without it")
    if name not in KNOWN:
        raise ParameterError(source, f"has the parameter {name}, which libpq does not know", f"{without}; see {PAGE}")
    known = KNOWN[name]
    if known.is_refused:
        trouble = f"sets {name}, which cannot be followed ({known.rule})"
        raise ParameterError(source, trouble, f"{without}; see {PAGE}")
    if not re.fullmatch(known.values, value, re.DOTALL):
        trouble = "is wrong" if variable else f"has a wrong {name}"
        raise ParameterError(source, trouble, known.rule)
