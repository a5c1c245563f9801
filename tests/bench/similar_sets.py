"""Which public sets of texts is search measured on? What Python packages and one of npm ship, and how it is judged.

`similar_sets.txt` pins the packages and names the licences. Nothing of them is copied into this repository.
"""

import csv
import functools
import hashlib
import html
import importlib.util
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

csv.field_size_limit(1_000_000)
ELASTICLUNR = "elasticlunr@0.9.5"
ELASTICLUNR_SHA256 = "4081424892502a0c9488515b5d4629915e09cf6c3f1a06870dcf9a877ef06b48"
ALIKE = 0.5  # from here on people's judgement of two texts of the lee corpus counts as alike; most are at 0.2 to 0.3


class Question(NamedTuple):
    """A text, the gain of each relevant document by its number, and the document that the text itself is, if any."""

    text: str
    right: Mapping[int, float]
    itself: int | None = None


class Collection(NamedTuple):
    """Documents of one language (a configuration of Postgres), and questions to them."""

    name: str
    language: str
    documents: list[str]
    questions: list[Question]


def advisories() -> Collection:
    """Return safety-db's advisories: relevant are those of the same CVE with another text."""
    cves: dict[str, set[str]] = {}
    for listed in json.loads(_shipped("safety_db", "insecure_full.json")).values():
        for one in listed if isinstance(listed, list) else []:
            cves.setdefault(one["advisory"].strip(), set()).update(re.findall(r"CVE-\d+-\d+", one.get("cve") or ""))
    documents, named = list(cves), list(cves.values())
    questions = [
        Question(document, right, itself)
        for itself, document in enumerate(documents)
        if (right := {other: 1.0 for other, its in enumerate(named) if other != itself and its & named[itself]})
    ]
    return Collection("advisories (safety-db)", "english", documents, questions)


def lee() -> Collection:
    """Return gensim's lee corpus, fifty news texts: people judged how alike each two are."""
    documents = _shipped("gensim", "test/test_data/lee.cor", "latin-1").strip().splitlines()
    rows = _shipped("gensim", "test/test_data/similarities0-1.txt").strip().splitlines()
    upper = [[float(one) for one in row.split()] for row in rows]
    questions = []
    for itself, document in enumerate(documents):
        judged = {other: upper[min(itself, other)][max(itself, other)] for other in range(len(documents))}
        right = {other: one for other, one in judged.items() if other != itself and one >= ALIKE}
        if right:
            questions.append(Question(document, right, itself))
    return Collection("news judged by people (gensim, lee)", "english", documents, questions)


def weaknesses() -> Collection:
    """Return the CWE's weaknesses: name and description find the extended description."""
    text = _shipped("cwe2", "database_v49/navigate_cwe/1000.csv")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["Description"] and row["Extended Description"]]
    pairs = [(f"{row['Name']}. {row['Description']}", row["Extended Description"]) for row in rows]
    return _pairs("weaknesses (cwe2)", pairs)


def questions_of_programmers() -> Collection:
    """Return elasticlunr's sample, questions from Stack Overflow: the title finds the body."""
    sample: dict[str, Any] = json.loads(_elasticlunr())
    pairs = [(row["title"], re.sub(r"<[^>]*>", " ", row["body"])) for row in sample["questions"]]
    return _pairs(
        "questions of programmers (elasticlunr)", [(html.unescape(one), html.unescape(two)) for one, two in pairs]
    )


def _pairs(name: str, pairs: list[tuple[str, str]]) -> Collection:
    """Return a set of English questions, of which each has one right document."""
    documents = list(dict.fromkeys(document for _, document in pairs))
    numbers = {document: number for number, document in enumerate(documents)}
    questions = [Question(question, {numbers[document]: 1.0}) for question, document in pairs]
    return Collection(name, "english", documents, questions)


def is_there() -> bool:
    """Return True if the packages of similar_sets.txt are installed."""
    return all(importlib.util.find_spec(name) for name in ("bm25s", "Stemmer", "safety_db", "gensim", "cwe2"))


def has_npm() -> bool:
    """Return True if npm is there to fetch elasticlunr."""
    return shutil.which("npm") is not None


def _shipped(package: str, file: str, encoding: str = "utf-8") -> str:
    """Return the text of a file in a package, without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    [directory] = spec.submodule_search_locations or []
    return (Path(directory) / file).read_text(encoding)


@functools.cache
def _elasticlunr() -> bytes:
    """Return elasticlunr's sample from its package, which npm fetches."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            ["npm", "pack", "--silent", ELASTICLUNR], cwd=directory, check=True, stdout=subprocess.DEVNULL, timeout=120
        )
        [file] = Path(directory).iterdir()
        assert hashlib.sha256(file.read_bytes()).hexdigest() == ELASTICLUNR_SHA256, file
        with tarfile.open(file) as archive:
            member = archive.extractfile("package/example/example_data.json")
            assert member is not None
            return member.read()
