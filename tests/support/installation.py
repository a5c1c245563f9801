"""An installation with roles: a database whose owner is no superuser, and logins in the roles of `roles make`."""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg import sql

from db import roles
from tests.conftest import clean_environment
from tests.support.system import Database, run

PASSWORD = uuid.uuid4().hex


class Installation(msgspec.Struct, frozen=True):
    """A database whose owner is no superuser, and the roles whose names begin with `name`."""

    name: str
    url: str

    def by(self, role: str) -> Database:
        return Database(log_in(self.url, f"{self.name}_{role}"))

    @property
    def owner(self) -> Database:
        return self.by("owner")

    def run(self, *arguments: str, by: str = "owner") -> subprocess.CompletedProcess[str]:
        """Run `ticket-inbox ARGUMENTS` as a role of this installation."""
        environment = clean_environment(DATABASE_URL=self.by(by).url, SECRETS_KEY="A" * 43 + "=")
        takes_prefix = arguments[0] == "roles" and arguments[1] != "revoke"
        return run([*arguments, *(["--prefix", self.name] if takes_prefix else [])], environment)

    def make(self, by: str = "owner") -> roles.Made:
        return roles.make(self.by(by).url, self.name)

    def let_read(self, tenant_id: str, role: str) -> None:
        roles.let_read(self.owner.url, self.name, tenant_id, f"{self.name}_{role}")

    def add_login(self, role: str, kind: str) -> None:
        self.owner.query(f"CREATE ROLE {self.name}_{role} LOGIN PASSWORD '{PASSWORD}' IN ROLE {self.name}_{kind}")

    def add_old_reader(self, role: str, tenant_id: str) -> None:
        """Add a reader as the versions before migration 0008 did: its policy names the tenant."""
        if not self.owner.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", f"{self.name}_reader"):
            self.owner.query(f"CREATE ROLE {self.name}_reader")
            self.owner.query(f"GRANT SELECT ON ticket_history TO {self.name}_reader")
        self.add_login(role, "reader")
        names = sql.Identifier(f"{self.name}_{role}"), sql.Literal(tenant_id)
        policy = sql.SQL("CREATE POLICY {0} ON ticket_history FOR SELECT TO {0} USING (tenant_id = {1})").format(*names)
        with psycopg.connect(self.owner.url) as connection:
            connection.execute(policy)

    def add_ticket(self, tenant_id: str, ticket_id: str = "seen", resolution: str = "r") -> None:
        self.owner.query(
            "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority) "
            "VALUES (%s, %s, 'd', %s, now(), 'p')",
            tenant_id, ticket_id, resolution,
        )  # fmt: skip

    def add_tenant(self, tenant_id: str) -> None:
        self.owner.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES (%s, 's')", tenant_id)


def log_in(url: str, role: str) -> str:
    """Return the URL with which `role` logs in."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"))


@contextlib.contextmanager
def installation(server_url: str, may: str = "CREATEROLE") -> Iterator[Installation]:
    """Make an empty database and its owner, which `may` do that; drop both, and all roles of that name, at the end."""
    name = f"roles_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name}_owner LOGIN {may} PASSWORD '{PASSWORD}'")
        admin.execute(f"CREATE DATABASE {name} OWNER {name}_owner TEMPLATE template0 STRATEGY file_copy")
        try:
            yield Installation(name, urlunsplit(urlsplit(server_url)._replace(path=f"/{name}")))
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            found = admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"{name}%"]).fetchall()
            admin.execute(f"DROP ROLE {', '.join(role for (role,) in found)}")
