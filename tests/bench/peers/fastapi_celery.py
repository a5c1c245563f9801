"""FastAPI, Pydantic, and a Celery task over Redis that upserts: the design that ticket-inbox replaces.

`uvicorn tests.bench.peers.fastapi_celery:app`, and `celery --app=tests.bench.peers.fastapi_celery worker`.
"""

import os
from typing import Annotated, Any

import sqlalchemy as sa
from celery import Celery
from fastapi import Depends, FastAPI
from sqlalchemy.dialects.postgresql import insert

from tests.bench.peers.payload import PATH, URL, Payload, Ticket, verified

app = FastAPI()
celery = Celery(broker=os.environ["REDIS_URL"])
celery.conf.task_ignore_result = True
engine = sa.create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))


@app.post(PATH, status_code=202)
async def take_in(body: Annotated[bytes, Depends(verified)]) -> dict[str, str]:
    """Check the signature, validate, hand the payload to Celery, answer."""
    store.delay(Payload.model_validate_json(body).model_dump(mode="json"))
    return {"status": "accepted"}


@celery.task(acks_late=True)
def store(payload: dict[str, Any]) -> None:
    """Upsert one ticket."""
    given = Payload.model_validate(payload).model_dump(exclude={"subject"})
    given["description"] = f"{payload['subject']}\n\n{given['description']}"
    added = insert(Ticket).values(**given)
    newer = added.excluded.resolved_date > Ticket.resolved_date
    changes = {name: added.excluded[name] for name in ("resolution", "resolved_date")}
    with engine.begin() as connection:
        connection.execute(
            added.on_conflict_do_update(index_elements=["tenant_id", "ticket_id"], set_=changes, where=newer)
        )
