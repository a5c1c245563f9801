"""In which ways do live portals differ from their vendor's pages? Each way is a switch of the double of the tests.

    with running_sdp("cloud", list_lacks=VENDORS_LIST) as sdp:  # from the start, and again after `sdp.clear()`
        sdp.ways.ignores_criteria = True                        # from now on

All of them were seen in public code that meets live portals; none was tried by us on a live one.
"""

from collections.abc import Collection
from typing import Any

import msgspec

# What the vendor's page says that a list lacks, and what the live portals lack that bring more.
VENDORS_LIST = frozenset({"description", "resolution", "resolved_time", "completed_time", "tags"})
NO_DESCRIPTION = frozenset({"description"})
LEFT_OUT = "left out"


class Ways(msgspec.Struct):
    """How this ServiceDesk Plus behaves where portals differ."""

    list_lacks: Collection[str] = frozenset()  # members that no list brings, whatever `fields_required` names
    tickets_lack: Collection[str] = frozenset()  # members that no ticket has, in a list or by itself
    refuses_fields: Collection[str] = frozenset()  # members that `fields_required` may not name
    ignores_criteria: bool = False  # it accepts `search_criteria`, and filters nothing
    has_more_rows: Any = None  # what a list says instead of whether there is more; LEFT_OUT for nothing
    list_info: Any = None  # what it says instead of its whole `list_info`; LEFT_OUT for nothing
    empty_list: Any = None  # what stands for the `requests` of an empty list; LEFT_OUT for nothing
    answers_bare_404_at: str | None = None  # the base of an address whose every path answers a bare 404
    also_at_host: bool = False  # the API is at https://HOST/api/v3 too, without /app/PORTAL
    archive: str = "archive_"  # how its members' names begin there; "" for the names of /requests; or one of NO_ARCHIVE

    def shaped(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a list with what this portal says in place of its members."""
        if not body["requests"]:
            body = _with(body, "requests", self.empty_list)
        if self.list_info is None and isinstance(body["list_info"], dict):
            body["list_info"] = _with(body["list_info"], "has_more_rows", self.has_more_rows)
        return _with(body, "list_info", self.list_info)


# What /archive_requests answers where there is none, or no right to it: status and code; 0 without a status of its own.
NO_ARCHIVE = {"bare 404": (404, 0), "no archive": (404, 4007), "forbidden": (403, 4002), "4007 in 400": (400, 4007)}

# How a throttle is written: HTTP 400 without Retry-After, and the portal stays locked for five minutes.
THROTTLES: dict[str, dict[str, Any]] = {
    "object": {"response_status": {"status_code": 4015, "status": "failed"}},
    "array": {"response_status": [{"status_code": 4015, "status": "failed"}]},
    "text": {"response_status": {"status_code": "4015", "status": "failed"}},
    "in messages": {"response_status": {"status_code": 4000, "messages": [{"status_code": 4015, "message": "API rate limit reached"}]}},
    "second message": {"response_status": {"status_code": 4000, "messages": [{"status_code": 4001, "message": "No"}, {"status_code": "4015"}]}},
    "messages object": {"response_status": [{"status_code": "4000", "messages": {"status_code": "4015", "message": "API rate limit reached"}}]},
}  # fmt: skip
DENIED = {
    "error_description": "You have made too many requests continuously. Please try again after some time.",
    "error": "Access Denied",
    "status": "failure",
}


def _with(body: dict[str, Any], name: str, said: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return `body` with `said` as its member `name`: unchanged if that is None, without it if it is LEFT_OUT."""
    if said is None:
        return body
    rest = {one: value for one, value in body.items() if one != name}
    return rest if said == LEFT_OUT else rest | {name: None if said == "null" else said}
