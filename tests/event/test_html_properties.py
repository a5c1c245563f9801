"""What holds for every text: nothing is lost but tags, in their order, in a time that grows with the length."""

import html
import re
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.event.html_tags import Tags
from app.event.html_text import text_of, text_of_flat

pytestmark = pytest.mark.one_postgres

PIECES = st.sampled_from(
    ["<", ">", "&", "<x", "</", "<it@example.com>", "<source>", "<b", "<div", "&section", "&#", "&x;", "<!--", "-->", '"', "='", "\r\n", "\r",
     "\n", "\u00a0", "\u00ad", "\u200b", "\u2060", "\ufeff", "\u200d", "u\u0308", "\u0308", "\u0323", "가", "\u1100\u1161", " ", "p>", "a"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join)
UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")


@given(TEXTS)
def test_a_text_without_known_tags_and_whole_references_keeps_every_character(text: str) -> None:
    """But line ends and what nobody sees; U+00A0 is a blank, or nothing where a line has nothing else."""
    text = re.sub(r"&(?=#?\w+;)", "+", text)
    if Tags(text).are_html():
        text = text.replace(">", "")
    lines = UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    kept = ["" if "\u00a0" in line and not line.strip(" \t\u00a0") else line.replace("\u00a0", " ") for line in lines]
    wanted = unicodedata.normalize("NFC", "\n".join(kept))
    assert text_of(text) == text_of_flat(text) == wanted


BLOCKS = "address article blockquote center dd div dl dt fieldset figure footer form h1 h4 header legend li main ol p pre section summary ul"
INLINE = "a abbr b button cite code del em font i ins label mark nobr q s samp small span strike strong sub sup time tt u var o:p"
TABLES = "table tbody thead tfoot tr td th caption"
ATTRIBUTES = st.sampled_from(
    ["", "", "", ' class="MsoNormal"', " style='white-space: pre-wrap'", ' STYLE="white-space:pre-line"', " class=gmail_quote", " dir=auto",
     ' href="https://a.example/1"', ' href="#"', " start=3", ' title="a > b <i>"', " hidden", " data-x"]
)  # fmt: skip
WORD = st.text("abcäöü日0123456789_<>&;/-=\"'", min_size=1, max_size=8)
Nodes = tuple[str, list[str]]  # as HTML, and its words


@st.composite
def nodes(draw: st.DrawFn, children: st.SearchStrategy[list[Nodes]]) -> Nodes:
    """Draw an element that holds `children`, with any of HTML's ways to write its tags."""
    name, given_ = draw(st.sampled_from(f"{BLOCKS} {INLINE} {TABLES}".split())), draw(ATTRIBUTES)
    inner = draw(children)
    start = draw(st.sampled_from([name, name.upper()]))
    between = draw(
        st.sampled_from(
            ["", " ", "\n\t", "<br>", "<br/>", "<hr />", "<!-- no -->", "<img src='x'>", "<script>no</script>"]
        )
    )
    end = f"</{name}{draw(st.sampled_from(['', ' ']))}>"
    return f"<{start}{given_}>" + between.join(one for one, _ in inner) + end, [
        word for _, words in inner for word in words
    ]


LEAVES = st.lists(WORD, max_size=4).map(lambda words: (html.escape(" ".join(words)), words))
TREES = st.recursive(LEAVES, lambda inner: nodes(st.lists(inner, max_size=4)), max_leaves=12)


@pytest.mark.parametrize("read", [text_of, text_of_flat])
@given(tree=TREES)
def test_a_tree_of_known_tags_keeps_the_words_of_every_text_in_order(read: Callable[[str], str], tree: Nodes) -> None:
    written, words = tree
    text, at = read(f"<div>{written}</div>"), 0
    for word in words:
        found = text.find(word, at)
        assert found >= 0, f"{word!r} is not in {text[at:]!r}"
        at = found + len(word)
    rest = re.sub(r"\(https://a\.example/1\)|•|\d+\.", "", text)
    assert len("".join(rest.split())) <= sum(map(len, words))  # and no tag is left


@given(
    st.lists(
        PIECES | st.sampled_from(["<p>", "</td>", "<table><tr><td>", "<a href='x'>", "<textarea>", "<li>", "</a>"]),
        max_size=40,
    ).map("".join)
)
def test_whatever_is_read_is_nfc_without_what_nobody_sees(text: str) -> None:
    for read in (text_of, text_of_flat):
        stored = read(text)
        assert unicodedata.is_normalized("NFC", stored)
        assert not UNSEEN.search(stored)
        assert not {"\r", "\u00a0"} & set(stored)
        assert len(read(text, 100)) <= 100


HOSTILE = {
    "openings": "<", "references": "&", "tags without an end": "<div ", "letters": "<a", "open quotes": '<a x="', "quotes in quotes": "<a x='\"<b y=\"' ",
    "other quotes in quotes": "<a x=\"<b y='\" z=' ", "nested": "<div>", "tables": "<table><tr><td>", "rows in tables": "<table><tr><td>x</td><td>",
    "cells": "<td>x<br>y", "open comments": "<!--", "open scripts": "<script>", "open text areas": "<textarea>", "open titles": "<title>",
    "doctypes": "<!doctype ", "links": '<a href="https://a.example/1">', "addresses": "http://", "numbers": "&#x41", "names": "&aaaaaaa",
    "spaces in tags": "<p   ", "quotes": "<blockquote>q", "lines": "<pre>\n a\n", "end tags": "</div>", "words": "<label>", "words with attributes": "<code x ",
}  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_body_made_to_cost_takes_time_by_its_length(unit: str) -> None:
    """Sixteen times as long takes about sixteen times as long; with the square of it, it would be 256 times."""
    short, long = (f"<p>{unit * (size // len(unit))}" for size in (2**12, 2**16))
    assert seconds(long) < 64 * max(seconds(short), 0.001)


def seconds(text: str) -> float:
    """Return the processor time that a text takes, at best of three tries."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        text_of(text)
        taken.append(time.thread_time() - began)
    return min(taken)


def test_a_tag_with_very_many_attributes_takes_no_time() -> None:
    """Twenty thousand took a second, and the time grew with their square."""
    given_ = " ".join(f"a{number}=1" for number in range(100_000))
    assert text_of(f"<div {given_}>a</div>") == "a"
