"""FastAPI, Pydantic, and an INSERT by an SQLAlchemy session in each request. `uvicorn tests.bench.peers.fastapi_insert:app`."""

from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from db import sessions
from tests.bench.peers.payload import PATH, URL, Event, Payload, verified

app = FastAPI()
sessions = async_sessionmaker(
    create_async_engine(sessions.asyncpg_url(URL).replace("postgresql://", "postgresql+asyncpg://"), pool_size=20)
)


@app.post(PATH, status_code=202)
async def take_in(body: Annotated[bytes, Depends(verified)]) -> dict[str, str]:
    """Check the signature, validate, insert, answer."""
    payload = Payload.model_validate_json(body)
    async with sessions() as session:
        session: AsyncSession
        session.add(Event(tenant_id=payload.tenant_id, ticket_id=payload.ticket_id, payload=body))
        await session.commit()
    return {"status": "accepted"}
