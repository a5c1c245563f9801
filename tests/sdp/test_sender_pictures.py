"""What does a sender's script send of a request whose inline pictures make it longer than the server takes?"""

import base64
import json
from typing import Any

import pytest

from tests.support.sender_scripts import ACCEPTED, KEPT, PROBLEM, Answerer, Reply, Sender, arrived, resolved
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

PICTURE = base64.b64encode(bytes(range(256)) * 8).decode()


def with_picture(size: int = 1) -> dict[str, Any]:
    """Return a request with an inline picture before and after its text."""
    image = f'<img alt="a" src="data:image/png;base64,{PICTURE * size}\r\n{PICTURE}">'
    return resolved(description=f"<p>before{image}</p><p>after</p>", resolution={"content": f"<b>fixed</b>{image}"})


def assert_pictureless(body: bytes, request: dict[str, Any]) -> None:
    """Assert that a body has everything of the request but what its pictures hold."""
    sent = json.loads(body)["request"]
    assert "base64" not in json.dumps(sent)
    assert "before" in sent["description"]
    assert sent["description"].endswith("</p><p>after</p>")
    assert sent["resolution"]["content"].startswith("<b>fixed</b>")
    texts = ("description", "resolution")
    assert {**sent, **dict.fromkeys(texts)} == {**request, **dict.fromkeys(texts)}


def test_a_body_over_the_limit_is_sent_without_its_pictures(sender: Sender, module_database: Database) -> None:
    """The server's limit is 1 MiB too."""
    request = with_picture(500)
    printed = sender.run(sender.file(request))
    assert printed.result == "success"
    [(correlation_id, payload)] = arrived(module_database, sender)
    assert f"{correlation_id} was sent without its inline pictures" in printed.message
    assert_pictureless(payload, request)


def test_the_limit_can_be_set(rude: Sender, answerer: Answerer) -> None:
    request = with_picture()
    assert "pictures" not in rude.run(rude.file(request)).message
    for limit in ("2000", " 2000 "):
        assert "without its inline pictures" in rude.run(rude.file(request), TICKET_INBOX_MAX_BODY_BYTES=limit).message
    assert json.loads(answerer.got[0].body)["request"] == request
    assert_pictureless(answerer.got[2].body, request)
    assert "pictures" not in rude.run(rude.file(request), TICKET_INBOX_MAX_BODY_BYTES="1 MiB").message


def test_what_is_answered_413_is_sent_once_more_without_its_pictures(rude: Sender, answerer: Answerer) -> None:
    answerer.reply = lambda got: (413, {}, PROBLEM) if len(got.body) > 2000 else ACCEPTED
    request = with_picture()
    printed = rude.run(rude.file(request))
    assert printed.result == "success"
    assert "without its inline pictures" in printed.message
    whole, slim = answerer.got
    assert json.loads(whole.body)["request"] == request
    assert_pictureless(slim.body, request)
    assert whole.id == slim.id


@pytest.mark.parametrize("retry", [ACCEPTED, (413, {}, PROBLEM)])
def test_the_spool_keeps_the_pictures(rude: Sender, answerer: Answerer, retry: Reply) -> None:
    """If the second try fails, the whole event waits, or is in refused/: the limit may be raised meanwhile."""
    request = with_picture()
    answerer.replies((413, {}, PROBLEM), (503, {"Retry-After": "3600"}, b""))
    assert KEPT in rude.run(rude.file(request)).message
    [waiting] = rude.spooled()
    assert json.loads(waiting.read_bytes())["request"] == request
    answerer.got.clear()
    answerer.replies((413, {}, PROBLEM), retry)
    printed = rude.run("--flush")
    assert (len(answerer.got), rude.spooled()) == (2, [])
    if retry == ACCEPTED:
        assert printed.result == "success"
    else:
        [aside] = rude.refused()
        assert json.loads(aside.read_bytes())["request"] == request


def test_what_has_no_pictures_is_sent_once_as_it_is(rude: Sender, answerer: Answerer) -> None:
    answerer.replies((413, {}, PROBLEM))
    request = resolved(description="what data:image/png; means " * 100)
    printed = rude.run(rude.file(request), TICKET_INBOX_MAX_BODY_BYTES="2000")
    assert "put into refused/: 413" in printed.message
    assert json.loads(answerer.got[0].body)["request"] == request
    assert len(answerer.got) == 1
