"""Which tickets does `dev --samples` send, and what does it ask? A dozen of a help desk, and a question to them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("samples.jsonl")  # as `ticket-inbox import` takes it too
QUESTION = {
    "subject": "Nobody on the second floor can print since this morning",
    "description": "SRV-PRINT-02 says access denied, 80070005. Yesterday it was patched with KB5005565.",
}


def payloads(tenant_id: str) -> Sequence[dict[str, Any]]:
    """Return the tickets as webhooks of `tenant_id`; the ids are the same each time."""
    return [{"tenant_id": tenant_id, **json.loads(line)} for line in FILE.read_text("utf-8").splitlines()]
