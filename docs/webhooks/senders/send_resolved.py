"""How does ServiceDesk Plus on premises send a resolved request to ticket-inbox? Its action "Execute script" runs this.

    py send_resolved.py $COMPLETE_V3_JSON_FILE      sends what waits in the spool, and then this request
    py send_resolved.py --flush                     sends what waits in the spool

Needs Python 3.8 or newer, nothing else. It sends a request that became Resolved or Closed, or whose resolution was
edited later; this is in the spool until it is answered 202. Tested on Linux; the lines for Windows ("nt") are not.
"""

import collections, contextlib, email.utils, hashlib, hmac, http.client, json, locale, os, random, re, ssl, sys
import threading, time, urllib.request as web, uuid
from pathlib import Path

locks = __import__("msvcrt" if os.name == "nt" else "fcntl")
setting = os.environ.get  # set what follows here or in the environment; the secret's file is for ServiceDesk Plus alone
URL = setting("TICKET_INBOX_URL", "https://tickets.example.com").rstrip("/") + "/webhook/servicedesk/resolved-ticket"
TENANT_ID = setting("TICKET_INBOX_TENANT", "acme")
SECRET_FILE = Path(setting("TICKET_INBOX_SECRET_FILE", Path(__file__).with_name("ticket-inbox-secret")))
SPOOL = Path(setting("TICKET_INBOX_SPOOL", Path(__file__).with_name("ticket-inbox-spool")))
CA_FILE = setting("TICKET_INBOX_CA_FILE")  # a private authority's certificate (PEM); unset: those the system trusts
STATUSES = setting("TICKET_INBOX_STATUSES", "Resolved,Closed").split(",")  # by `name` or by `internal_name`
CODE_PAGE = setting("TICKET_INBOX_CODE_PAGE")  # of files that are not UTF-8, such as windows-1252; unset: the system's
limit = setting("TICKET_INBOX_MAX_BODY_BYTES", "").strip()  # what ticket-inbox has as MAX_BODY_BYTES
MAX_BODY_BYTES = int(limit) if re.fullmatch("[0-9]+", limit) else 1048576
SIGNED_TIMESTAMP = setting("TICKET_INBOX_SIGNED_TIMESTAMP")  # 1 where ticket-inbox has SIGNED_TIMESTAMP_SECONDS
BUDGET = 30  # seconds for all that one run sends, waits included
TRY = 10  # seconds for one try
SPOOL_LIMIT = 1000  # events
ASIDE = (400, 413, 415, 422)  # the same bytes would be refused again
MEND = {202: "", 401: "; mend TENANT_ID or the secret", 404: "; mend URL", 413: "; have MAX_BODY_BYTES raised"}
SHOWN = ("status", "resolution", "closure_info", "closure_comments", "resolved_time", "completed_time")
PICTURES = re.compile(rb"data:image/[\w.+-]+;base64,(?:[A-Za-z0-9+/=]+|\\[rn])*", re.IGNORECASE)
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # the marks that such a file begins with
PICTURELESS = "sent without its inline pictures"
Event = collections.namedtuple("Event", "path id body held")  # not held where the spool could not take it
Answer = collections.namedtuple("Answer", "status text wait")  # `wait`, then send it again; None: not in this run


def read_document(content):
    """Return a file's document, and a warning if its encoding was guessed. Raises ValueError if it cannot be read."""
    if content[:2] in UTF16:
        return json.loads(content.decode("utf-16", "surrogatepass")), ""
    with contextlib.suppress(UnicodeDecodeError):
        return json.loads(content.decode("utf-8-sig")), ""
    page = CODE_PAGE or ("mbcs" if os.name == "nt" else getattr(locale, "getencoding", locale.getpreferredencoding)())
    warning = f"; WARNING: the file is not UTF-8 and was read as {page}: look whether its letters are right"
    return json.loads(content.decode(page)), warning


def unread(content, error):
    """Return why a file cannot be read, and what to do about it."""
    if not content.strip():
        return "the file is empty"
    if isinstance(error, (UnicodeError, LookupError)) and content[:2] not in UTF16:
        return f"{error}; set CODE_PAGE to the file's encoding"
    return f"it is no JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)


def objection(document):
    """Return why a request is not to be sent, or "". Raises ValueError if the document holds no request of API V3."""
    request = document.get("request") if isinstance(document, dict) else None
    if isinstance(request, dict) and "WORKORDERID" in request:
        raise ValueError("this is the V1 file of $COMPLETE_JSON_FILE; give $COMPLETE_V3_JSON_FILE in the script's line")
    if not (isinstance(request, dict) and request.get("id") and isinstance(request.get("status"), dict)):
        raise ValueError("it holds no request of API V3 with an id and a status; give $COMPLETE_V3_JSON_FILE")
    status, wanted = request["status"], [one.strip().casefold() for one in STATUSES if one.strip()]
    if not any(str(status.get(name)).strip().casefold() in wanted for name in ("name", "internal_name")):
        hint = "; it is not in progress: is it missing in STATUSES?" if status.get("in_progress") is False else ""
        return f"the status is {status.get('name')}, not {' or '.join(STATUSES)}{hint}"
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        old, new = (document["diff"][side]["request"] for side in ("old", "new"))
        if (old or new) and all(old.get(member) == new.get(member) for member in SHOWN):
            return "neither its status nor its resolution was edited"
    return ""  # a new request, or a build that does not say what was edited: better send too often than never


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
    """Return the bytes to send, and a warning if half a surrogate pair, which UTF-8 cannot hold, was replaced."""
    text = json.dumps({"tenant_id": TENANT_ID, "request": request}, ensure_ascii=False)
    halves = re.search("[\ud800-\udfff]", text)
    return text.encode("utf-8", "replace"), "; WARNING: half of a character became a question mark" if halves else ""


def write(path, content):
    """Write a file into the spool or refused/, whole or not at all. Raises OSError, also if the folder is full."""
    for folder in (SPOOL, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(list(path.parent.glob("*.json"))) >= SPOOL_LIMIT:
        raise OSError(f"it holds {SPOOL_LIMIT} events")
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def keep(body):
    """Write an event into the spool; return it, and why the spool could not take it."""
    event_id = str(uuid.uuid4())
    path = SPOOL / f"{time.time_ns():020d}.{event_id}.json"
    try:
        write(path, body)
        return claim(path) or Event(path, event_id, body, None), ""
    except OSError as error:
        return Event(path, event_id, body, None), f"; the spool {SPOOL} could not take it: {error}"


def set_aside(content, reason):
    """Write a file that cannot be read into refused/, as it came, with the reason; return where it is, or why not."""
    path = SPOOL / "refused" / f"{time.time_ns():020d}.{uuid.uuid4()}.json"
    try:
        write(path, content)
        path.with_suffix(".txt").write_text(f"{reason}\nTo send it, run the script with this file's path.\n", "utf-8")
    except OSError as error:
        return f"NOT KEPT: {path.parent} could not take it: {error}"
    return f"the file is kept as {path}"


def claim(path):
    """Lock a spooled event for this process; return None if it is gone, another tenant's, or locked by another run."""
    with contextlib.suppress(OSError, IndexError):
        held = path.open("r+b")
        if os.name == "nt":  # both kinds of lock end with the process, however that ends
            locks.locking(held.fileno(), locks.LK_NBLCK, 1)
        else:
            locks.flock(held, locks.LOCK_EX | locks.LOCK_NB)
        body = held.read()
        if path.exists() and body.startswith(payload({})[0][:-3]):
            return Event(path, path.name.split(".")[1], body, held)
    return None


def strangers():
    """Return a note on what waits in the spool under another tenant_id: no run for this tenant sends it."""
    ours, count = payload({})[0][:-3], 0
    for path in SPOOL.glob("*.json"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # gone, or locked by another run on Windows
            count += file.read(len(ours)) != ours
    return f"; {count} in the spool with another tenant_id: correct it in them, or run with theirs" if count else ""


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


def try_once(event, secret, end):
    answers, seconds = [Answer(0, f"{URL} has not answered in time", 0)], max(0.01, min(TRY, end - time.monotonic()))
    trying = threading.Thread(target=lambda: answers.append(post(event, secret, seconds)), daemon=True)
    trying.start()
    trying.join(seconds)  # a look-up of the host's name, or an answer that drips, ignores the time-out
    return answers[-1]


def try_to_fit(event, secret, end):
    """Send an event once; if it is too long, once more without its inline pictures, which the answer then says."""
    slim = event._replace(body=PICTURES.sub(b"", event.body))
    sent = event if len(event.body) <= MAX_BODY_BYTES else slim
    answer = try_once(sent, secret, end)
    if answer.status == 413 and sent is event and len(slim.body) < len(event.body):
        sent, answer = slim, try_once(slim, secret, end)
    return answer if sent.body == event.body else answer._replace(text=f"{answer.text}; {PICTURELESS}")


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
        last = try_to_fit(event, secret, end)
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
    new, note, warning, guessed, halves, done = None, "", "", "", "", {}
    if arguments != ["--flush"]:
        content = Path(*arguments).read_bytes()
        try:
            document, guessed = read_document(content)
            nothing = objection(document)
        except (ValueError, LookupError, RecursionError) as error:
            reason = unread(content, error)
            return False, f"nothing is sent: {reason}; {set_aside(content, reason)}"
        if nothing:
            return True, f"nothing to send: {nothing}"
        body, halves = payload(document["request"])
        new, note = keep(body)
    try:
        secret, warning = read_secret()
        done, last = deliver(new, secret)
    except (OSError, ValueError) as error:
        last = Answer(0, f"no secret: {error}", None)
    delivered = [one for one, answer in done.items() if answer.status == 202]
    mine, left = new.id if new else None, len(list(SPOOL.glob("*.json")))
    refused = [f"; {one} is in refused/: {done[one].text}" for one in done if one not in (*delivered, mine)]
    slim = [f"; {one} was {PICTURELESS}" for one in delivered if PICTURELESS in done[one].text]
    notes = "".join([*refused, *slim, note, strangers(), warning, guessed, halves])
    count = f"{len(delivered)} delivered, {left} in the spool{notes}"
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
