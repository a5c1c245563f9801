"""How does ServiceDesk Plus on premises send a resolved request to ticket-inbox? Its action "Execute script" runs this.

    py send_resolved.py $COMPLETE_V3_JSON_FILE      sends what waits in the spool, and then this request
    py send_resolved.py --flush                     sends what waits in the spool

Needs Python 3.8 or newer, nothing else. A request that is Resolved, then Closed, is sent twice, which does no harm. It
is in the spool until it is answered 202: a kill loses nothing. Tested on Linux; the lines for Windows ("nt") are not.
"""

import collections, contextlib, email.utils, hashlib, hmac, http.client, json, os, random, ssl, sys, threading, time
import urllib.request as web, uuid
from pathlib import Path

locks = __import__("msvcrt" if os.name == "nt" else "fcntl")
setting = os.environ.get  # set what follows here or in the environment; the secret's file is for ServiceDesk Plus alone
URL = setting("TICKET_INBOX_URL", "https://tickets.example.com").rstrip("/") + "/webhook/servicedesk/resolved-ticket"
TENANT_ID = setting("TICKET_INBOX_TENANT", "acme")
SECRET_FILE = Path(setting("TICKET_INBOX_SECRET_FILE", Path(__file__).with_name("ticket-inbox-secret")))
SPOOL = Path(setting("TICKET_INBOX_SPOOL", Path(__file__).with_name("ticket-inbox-spool")))
CA_FILE = setting("TICKET_INBOX_CA_FILE")  # a private authority's certificate (PEM); unset: those the system trusts
STATUSES = setting("TICKET_INBOX_STATUSES", "Resolved,Closed").split(",")
SIGNED_TIMESTAMP = setting("TICKET_INBOX_SIGNED_TIMESTAMP")  # 1 where ticket-inbox has SIGNED_TIMESTAMP_SECONDS
BUDGET = 30  # seconds for all that one run sends, waits included
TRY = 10  # seconds for one try
SPOOL_LIMIT = 1000  # events
ASIDE = (400, 413, 415, 422)  # the same bytes would be refused again
MEND = {202: "", 401: "; mend TENANT_ID or the secret", 404: "; mend URL", 413: "; have MAX_BODY_BYTES raised"}
Event = collections.namedtuple("Event", "path id body held")  # not held where the spool could not take it
Answer = collections.namedtuple("Answer", "status text wait")  # `wait`, then send it again; None: not in this run


def transition(document):
    """Return True if the request has just got one of STATUSES."""
    name = (document["request"].get("status") or {}).get("name") or ""
    if name.strip().casefold() not in [one.strip().casefold() for one in STATUSES]:
        return False
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        old, new = (document["diff"][side]["request"].get("status") for side in ("old", "new"))
        return old != new
    return True  # an older build does not say what changed: better send too often than never


def read_secret():
    """Return the secret, and a warning if others can read it. The line break at the file's end is not part of it."""
    given = setting("TICKET_INBOX_SECRET", "").encode()
    content = given or SECRET_FILE.read_bytes()  # Windows' editors write UTF-16 too
    text = content.decode("utf-16" if content[:1] in b"\xff\xfe" else "utf-8-sig").rstrip("\r\n")
    readable = not given and os.name != "nt" and SECRET_FILE.stat().st_mode & 0o077
    return text.encode(), f"; WARNING: others can read {SECRET_FILE}, chmod 600 it" if readable else ""


def sign(secret, text):
    return "sha256=" + hmac.new(secret, text, hashlib.sha256).hexdigest()


def payload(request):
    """Return the bytes to send; half a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps({"tenant_id": TENANT_ID, "request": request}, ensure_ascii=False).encode("utf-8", "replace")


def keep(body):
    """Write an event into the spool, whole or not at all; return it, and why the spool could not take it."""
    event_id = str(uuid.uuid4())
    path, temporary = (SPOOL / f"{time.time_ns():020d}.{event_id}.{kind}" for kind in ("json", "tmp"))
    try:
        SPOOL.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(list(SPOOL.glob("*.json"))) >= SPOOL_LIMIT:
            raise OSError(f"it holds {SPOOL_LIMIT} events")
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        return claim(path) or Event(path, event_id, body, None), ""
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return Event(path, event_id, body, None), f"; the spool {SPOOL} could not take it: {error}"


def claim(path):
    """Lock a spooled event for this process; return None if it is gone, another tenant's, or locked by another run."""
    with contextlib.suppress(OSError, IndexError):
        held = path.open("r+b")
        if os.name == "nt":  # both kinds of lock end with the process, however that ends
            locks.locking(held.fileno(), locks.LK_NBLCK, 1)
        else:
            locks.flock(held, locks.LOCK_EX | locks.LOCK_NB)
        body = held.read()
        if path.exists() and body.startswith(payload({})[:-3]):
            return Event(path, path.name.split(".")[1], body, held)
    return None


def leave(event, answer):
    """Remove an event from the spool: it was delivered, or goes to refused/ with the reason."""
    aside = SPOOL / "refused" / event.path.name
    event.held.close()  # Windows does not move an open file
    if answer.status == 202:
        event.path.unlink()
    else:
        aside.parent.mkdir(mode=0o700, exist_ok=True)
        event.path.rename(aside)
        aside.with_suffix(".txt").write_text(answer.text, "utf-8")


def post(event, secret, seconds):
    """Send an event once. Return the answer, with the detail of a refusal (RFC 9457) and when to send it again."""
    headers, signed = {"Content-Type": "application/json", "X-Correlation-ID": event.id}, event.body
    if SIGNED_TIMESTAMP:
        headers["X-ServiceDesk-Timestamp"] = now = str(int(time.time()))
        signed = now.encode() + b"." + signed
    headers["X-ServiceDesk-Signature"] = sign(secret, signed)
    try:
        opener = web.OpenerDirector()  # without the handler that follows redirections
        tls = web.HTTPSHandler(context=ssl.create_default_context(cafile=CA_FILE))
        for handler in (web.ProxyHandler(), web.HTTPHandler(), tls, web.UnknownHandler()):
            opener.add_handler(handler)
        answer = opener.open(web.Request(URL, event.body, headers), timeout=seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        hopeless = isinstance(reason, (ssl.SSLCertVerificationError, FileNotFoundError, ValueError))
        return Answer(0, f"{URL}: {reason}{'; mend URL or CA_FILE' if hopeless else ''}", None if hopeless else 0)
    status, detail, after, wait = answer.code, answer.reason, answer.headers["Retry-After"] or "", 0
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError), answer:
        detail = json.loads(answer.read(65536)).get("detail", detail)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        wait = int(after) if after.isdigit() else email.utils.parsedate_to_datetime(after).timestamp() - time.time()
    text = f"{status} {detail}{MEND.get(status, '' if status >= 400 else '; mend URL')}"
    return Answer(status, text, max(0, wait) if status in (408, 429) or status >= 500 else None)


def try_once(event, secret, seconds):
    answers = [Answer(0, f"{URL} has not answered in time", 0)]
    trying = threading.Thread(target=lambda: answers.append(post(event, secret, seconds)), daemon=True)
    trying.start()
    trying.join(seconds)  # a look-up of the host's name, or an answer that drips, ignores the time-out
    return answers[-1]


def deliver(new, secret):
    """Send what waits, oldest first, then `new`. Return the answers to events that left the spool, and the last one."""
    end, done, failures, last = time.monotonic() + BUDGET, {}, 0, Answer(202, "nothing was sent", None)
    queue = collections.deque(sorted(SPOOL.glob("*.json")))  # with `new`, which this process has locked already
    if new:
        (queue.append if new.held else queue.appendleft)(new)  # first if it is not in the spool: it could be lost
    while queue and time.monotonic() < end:
        event = queue.popleft()
        event = event if isinstance(event, Event) else claim(event)
        if not event:
            continue
        last = try_once(event, secret, min(TRY, end - time.monotonic()))
        if last.status == 202 or last.status in ASIDE:
            done[event.id], failures = last, 0
            with contextlib.suppress(OSError, AttributeError):  # it is not in the spool, or another run has it too
                leave(event, last)
        elif last.wait is not None:
            pause = last.wait + random.uniform(0, min(8, 0.5 * 2**failures))  # full jitter
            if time.monotonic() + pause > end:
                break
            time.sleep(pause)
            failures += 1
            (queue.append if event.held else queue.appendleft)(event)  # last if it can: the event may be at fault
        elif last.status in (0, 401):
            break  # the others would fail too
    return done, last


def main(arguments):
    """Return True if all is well, and the message that ServiceDesk Plus shows in the request's history."""
    new, note, warning, done = None, "", "", {}
    if arguments != ["--flush"]:
        document = json.loads(Path(*arguments).read_text("utf-8-sig", "replace"))
        if not transition(document):
            return True, f"nothing to send: the status has not become {' or '.join(STATUSES)}"
        new, note = keep(payload(document["request"]))
    try:
        secret, warning = read_secret()
        done, last = deliver(new, secret)
    except (OSError, ValueError) as error:
        last = Answer(0, f"no secret: {error}", None)
    delivered = [one for one, answer in done.items() if answer.status == 202]
    mine, left = new.id if new else None, len(list(SPOOL.glob("*.json")))
    refused = [f"; {one} is in refused/: {done[one].text}" for one in done if one not in (*delivered, mine)]
    count = f"{len(delivered)} delivered, {left} in the spool{''.join(refused)}{note}{warning}"
    if not new:
        return not (refused or left), f"{count}; {last.text}"
    if mine in delivered:
        return True, f"{count}; correlation id {mine}"
    fate = "put into refused/" if mine in done else "nothing is lost: it will be sent with the next one, or by --flush"
    return False, f"{'NOT KEPT' if note else fate}: {done.get(mine, last).text}; {count}; correlation id {mine}"


if __name__ == "__main__":
    try:
        well, message = main(sys.argv[1:])
    except Exception as error:
        well, message = False, f"nothing is sent; give $COMPLETE_V3_JSON_FILE or --flush: {error!r}"
    print(json.dumps({"result": "success" if well else "failure", "message": message}), flush=True)
    os._exit(not well)  # a regular exit crashed when a thread was still in the midst of TLS
