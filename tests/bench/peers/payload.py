"""Code that the peers share: the payload as a Pydantic model, the check of the signature, and the tables."""

import hashlib
import hmac
import os
from datetime import datetime

import sqlalchemy as sa
from fastapi import HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PATH = "/webhook/servicedesk/resolved-ticket"
SECRET = os.environ["SECRET"].encode()
URL = os.environ["DATABASE_URL"]


class Payload(BaseModel):
    """The webhook's body."""

    tenant_id: str = Field(min_length=1, max_length=100)
    ticket_id: str = Field(min_length=1, max_length=100)
    subject: str = Field(max_length=1000)
    description: str = Field(max_length=10_000)
    resolution: str
    resolved_date: datetime
    priority: str
    tags: list[str] = []


class Base(DeclarativeBase):
    """The peers' own tables."""


class Event(Base):
    """A webhook as it arrived."""

    __tablename__ = "peer_event"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    tenant_id: Mapped[str]
    ticket_id: Mapped[str]
    payload: Mapped[bytes]
    received_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())


class Ticket(Base):
    """A stored ticket, with the same columns, constraint and full-text index as ticket_history."""

    __tablename__ = "peer_ticket"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    tenant_id: Mapped[str]
    ticket_id: Mapped[str]
    description: Mapped[str]
    resolution: Mapped[str]
    resolved_date: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    priority: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "ticket_id"),
        sa.Index("peer_ticket_text", sa.text("to_tsvector('english', description)"), postgresql_using="gin"),
    )


async def verified(request: Request) -> bytes:
    """Return the body, if the header's signature verifies."""
    body = await request.body()
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-servicedesk-signature", "").removeprefix("sha256=")
    if not hmac.compare_digest(expected, given):
        raise HTTPException(401)
    return body
