"""The text of tickets, as people write to a service desk: the cost of a text depends on its words."""

import random

SUBJECTS = (
    "the VPN client", "the shared drive", "the label printer in the warehouse", "Outlook on my laptop", "the badge reader",
    "the quarterly report", "my docking station", "the wireless network", "the ticket portal", "the conference room screen",
    "the backup of the file server", "single sign-on", "the payroll application", "the scanner on the third floor",
    "my second monitor", "the customer database", "the phone on my desk", "the software catalogue", "the test environment",
    "the password reset page",
)  # fmt: skip
TROUBLES = (
    "stopped working", "shows an error message", "asks for a password again and again", "is very slow", "cannot be reached",
    "loses the connection every hour", "freezes after a few minutes", "prints blank pages", "says that the licence has expired",
    "does not start any more", "refuses my certificate", "takes ten minutes to open a document", "closes without a word",
    "was removed by the last update", "no longer remembers my settings", "sends every message twice",
)  # fmt: skip
WHENS = (
    "since Monday morning", "after the update of last weekend", "whenever I work from home", "from time to time",
    "since I changed my password", "as soon as a colleague logs in", "on every laptop of the sales team", "on the third floor only",
    "when the battery is low", "during the video conference with our supplier", "right after lunch", "with large attachments",
)  # fmt: skip
TRIED = (
    "I have already restarted the machine and tried another cable.", "Reinstalling it did not help.",
    "A colleague in accounting sees the same thing.", "The event log is attached, and a picture of the message.",
    "We need this for the reports that are due on Friday, so please treat it as urgent.",
    "You may take over my screen between ten and twelve.", "The guest network does not show the problem at all.",
    "I followed the article in the knowledge base, step by step, without success.", "It worked before.",
    "Nobody in our office can book travel until this is solved.", "The workaround from last time has no effect.",
)  # fmt: skip


def description(characters: int) -> str:
    """Return a description of exactly this many characters."""
    text = ""
    while len(text) < characters:
        machine = f"{random.choice(('NB', 'PC', 'SRV'))}-{random.randrange(10_000):04d}"
        sentence = f"{random.choice(SUBJECTS)} {random.choice(TROUBLES)} {random.choice(WHENS)}"
        text += f"{sentence[0].upper()}{sentence[1:]} ({machine}). {random.choice(TRIED)} "
    return text[:characters]
