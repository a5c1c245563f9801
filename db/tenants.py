"""Which tenants may send webhooks? Table `tenant_configs`: tenants and their secrets, encrypted at rest."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy.dialects.postgresql import INTERVAL, TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import being_removed, metadata

tenant_configs = sa.Table(
    "tenant_configs",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("previous_secret", sa.Text),
    sa.Column("previous_secret_ends_at", TIMESTAMP(timezone=True)),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("length(tenant_id) BETWEEN 1 AND 100", name="tenant_id"),
    sa.CheckConstraint("(previous_secret IS NULL) = (previous_secret_ends_at IS NULL)", name="previous_secret"),
)
_column = tenant_configs.c
_in_grace = _column.previous_secret_ends_at > sa.func.now()


class UnreadableSecretError(Exception):
    """The secret was encrypted with a key that is not in SECRETS_KEY."""


class Secrets:
    """Encrypts secrets with the first of `keys` (Fernet keys, comma separated) and decrypts with any of them."""

    def __init__(self, keys: str) -> None:
        fernets = [Fernet(key.strip()) for key in keys.split(",")]
        self._first, self._fernet = fernets[0], MultiFernet(fernets)

    def encrypt(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, encrypted: str) -> bytes:
        """Return the secret's UTF-8 bytes, which are the HMAC's key. Raises UnreadableSecretError."""
        try:
            return self._fernet.decrypt(encrypted)
        except InvalidToken:
            raise UnreadableSecretError from None

    def anew(self, encrypted: str) -> str | None:
        """Return the text encrypted with the first key, or None if it is so already. Raises UnreadableSecretError."""
        try:
            self._first.decrypt(encrypted)
        except InvalidToken:
            return self.encrypt(self.decrypt(encrypted).decode())
        else:
            return None


class EncryptedSecrets(msgspec.Struct, frozen=True):
    """The secrets that verify for an enabled tenant now: the newest, and the previous one until its grace ends."""

    tenant_id: str
    secret: str
    previous_secret: str | None
    grace_seconds: float | None  # until the grace ends

    def __repr__(self) -> str:
        """Show the tenant's id alone."""
        return f"EncryptedSecrets({self.tenant_id!r}, …)"


async def read_enabled(connection: AsyncConnection) -> Sequence[EncryptedSecrets]:
    """Return every enabled tenant's secrets that verify at this moment, by the database's clock."""
    previous = sa.case((_in_grace, _column.previous_secret))
    left = sa.func.extract("epoch", _column.previous_secret_ends_at - sa.func.now())
    grace = sa.case((_in_grace, sa.cast(left, sa.Double)))
    found = await connection.execute(
        sa.select(_column.tenant_id, _column.secret, previous, grace).where(_column.enabled)
    )
    return [EncryptedSecrets(*row) for row in found]


class Reencrypted(msgspec.Struct, frozen=True):
    """How many secrets `reencrypt` encrypted again, and the tenants with a secret that no key decrypts."""

    count: int
    unreadable: Sequence[str]


async def reencrypt(connection: AsyncConnection, keys: Secrets) -> Reencrypted:
    """Encrypt with the first key what another key encrypted, until nothing is left; delete secrets past their grace.

    A text is replaced only while it is still the one that was read, so a secret that is rotated meanwhile stays.
    A running server that has both keys decrypts either text.
    """
    ended = _column.previous_secret_ends_at <= sa.func.now()
    past = sa.update(tenant_configs).where(ended)
    await connection.execute(past.values(previous_secret=None, previous_secret_ends_at=None))
    count = 0
    while True:
        old, unreadable = await _read_old(connection, keys)
        if not old:
            return Reencrypted(count, unreadable)
        for tenant_id, column, text, anew in old:
            is_still_it = sa.and_(_column.tenant_id == tenant_id, column == text)
            done = await connection.execute(sa.update(tenant_configs).where(is_still_it).values({column: anew}))
            count += done.rowcount


async def _read_old(connection: AsyncConnection, keys: Secrets) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return (tenant, column, text, new text) for each text not under the first key, and tenants with unreadable ones.

    An unreadable text is one that no key decrypts.
    """
    old, unreadable = [], set()
    columns = (_column.secret, _column.previous_secret)
    found = await connection.execute(sa.select(_column.tenant_id, *columns))
    for tenant_id, *texts in found:
        for column, text in zip(columns, texts, strict=True):
            try:
                if text and (anew := keys.anew(text)):
                    old.append((tenant_id, column, text, anew))
            except UnreadableSecretError:
                unreadable.add(tenant_id)
    return old, sorted(unreadable)


async def is_known(connection: AsyncConnection, tenant_id: str) -> bool:
    """Return whether there is such a tenant; reads no secret."""
    return (
        await connection.execute(sa.select(_column.tenant_id).where(_column.tenant_id == tenant_id))
    ).first() is not None


async def add(connection: AsyncConnection, tenant_id: str, encrypted: str) -> bool:
    """Add a tenant; return False if there is one with that id already, or if such a one is being removed."""
    new = sa.select(sa.literal(tenant_id), sa.literal(encrypted)).where(being_removed.is_not(sa.literal(tenant_id)))
    added = await connection.execute(
        insert(tenant_configs)
        .from_select(["tenant_id", "secret"], new)
        .on_conflict_do_nothing()
        .returning(_column.tenant_id)
    )
    return added.first() is not None


async def rotate(connection: AsyncConnection, tenant_id: str, encrypted: str, grace: timedelta) -> bool:
    """Make `encrypted` the tenant's secret; the old one verifies for `grace` more.

    Return False if there is no such tenant, or if it is being removed.
    """
    keep = grace > timedelta(0)
    return await _update(
        connection,
        tenant_id,
        secret=encrypted,
        previous_secret=_column.secret if keep else None,
        previous_secret_ends_at=sa.func.now() + sa.cast(grace, INTERVAL) if keep else None,
    )


async def set_enabled(connection: AsyncConnection, tenant_id: str, *, enabled: bool) -> bool:
    """Enable or disable a tenant; return False if there is no such tenant, or if it is being removed."""
    return await _update(connection, tenant_id, enabled=enabled)


async def _update(connection: AsyncConnection, tenant_id: str, **values: object) -> bool:
    changed = await connection.execute(
        sa.update(tenant_configs)
        .where(_column.tenant_id == tenant_id, being_removed.is_not(_column.tenant_id))
        .values(updated_at=sa.func.now(), **values)
        .returning(_column.tenant_id)
    )
    return changed.first() is not None
