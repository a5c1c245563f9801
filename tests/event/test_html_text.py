"""What becomes of texts that people and mail programs write: by API V3's members, and by flat ones."""

import json
import re
from urllib.parse import quote

import pytest

from app import event
from app.event import flat
from app.event.html_text import text_of, text_of_flat
from app.event.rules import Rules
from tests.event import test_flat, test_native

pytestmark = pytest.mark.one_postgres

BOTH = pytest.mark.parametrize("read", [text_of, text_of_flat])
SAFE_LINK = "https://eur01.safelinks.protection.outlook.com/?url={}&data=05%7C02%7Canna%40example.com%7C{}&reserved=0"


def safe(address: str) -> str:
    return SAFE_LINK.format(quote(address, safe=""), "c2hlbHRlcmVk" * 20)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "From: Helpdesk <it@example.com>",
        "if load<limit then restart\nthe pool; the rest must stay",
        "https://example.com/?id=1&section=3&copy=2&x",
        "cp <source> <target>\ncp <SOURCE> /tmp",
        "if a<b and c>d\n or x <p and q> y",
        "List<i> of <b>, <s> or <time> at <address>",
        "a latency <big enough, and a load <small as ever> that is > 5",
        "a <!-- b\n--> c",
        "<configuration>\n  <user>x</user>\n</configuration>",
        "  two blanks  \n\n\n\nand gaps\n",
        "<div",
        "<div class='",
        "</>",
    ],
)
def test_a_text_without_a_known_tag_stays_as_it_was_written(read: type[str], text: str) -> None:
    assert read(text) == text


@BOTH
@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>From: Helpdesk <it@example.com>, <b>now</b></p>", "From: Helpdesk <it@example.com>, now"),
        ("<div>if load<limit then <i>restart</i> &lt;b&gt;</div>", "if load<limit then restart <b>"),
        ("<P CLASS=x>cp <source> <target><br/>if a<b and c>d", "cp <source> <target>\nif a<b and c>d"),
        ("<div>a <!-- b</div>", "a <!-- b"),
        ("<table border><tr nowrap><td x:num>1<td x:str height=17 odd>2</table>", "1 2"),
        ("<div>a <!-- b -->c<!DOCTYPE html><![if !vml]><?xml:namespace x><o:p>d</o:p></div>", "a cd"),
        ("<p>a</p><!-- x --!><p>the fix</p><!-- y --><p>b</p><!--!> no --><!-->c", "a\n\nthe fix\n\nb\n\nc"),
        ('<div><a href="foo <b>bold</b> and "more"</div>', '<a href="foo <b>bold</b> and "more"'),
        ("<div><script>alert(1)</script >a<style>p{}</style>b</div><script>c", "ab\nc"),
        ("<html><head><title>x</title></head><body>a <title>b</title></body>", "a\nb"),
        (
            "<p>?id=1&section=3&copy=2 &sect; &#228;&#xe4; &nosuch; &#1;</p>",
            "?id=1&section=3&copy=2 § ää &nosuch; &#1;",
        ),
        ("<p>ok &#55357;&#56842;&#xD83D;&#xde0a; &#55357;&#55357;&#56842;</p>", "ok 😊😊 \ufffd😊"),
        ("<p>&#55357; &#56842;&#55357;&#57344;</p>", "\ufffd \ufffd\ufffd\ue000"),
    ],
)
def test_in_html_nothing_is_lost_but_tags(read: type[str], html: str, text: str) -> None:
    assert read(html) == text


@BOTH
def test_line_ends_stay_where_no_element_makes_lines(read: type[str]) -> None:
    assert (
        read('1. <b>stop</b>\r\n\r\n2.  see <a href="https://a.example/1">KB</a>\n')
        == "1. stop\n\n2. see KB (https://a.example/1)"
    )
    assert read("<b>stop</b>\nit<br>now") == "stop it\nnow"


def test_whole_references_are_decoded_where_the_member_is_html_and_nowhere_else() -> None:
    text = "R&amp;D &#228;&nbsp;&lt;div&gt;\n&section &x"
    assert text_of(text) == "R&D ä <div>\n&section &x"
    assert text_of_flat(text) == text
    assert text_of_flat(f"<p>{text}</p>") == "R&D ä <div> &section &x"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<tr><td><p>Host</p></td><td><div>vpn_gw_01</div></td></tr>", "Host vpn_gw_01"),
        ("<tr><th>Host<br></th><td>vpn_<b>gw</b>_01<br>Berlin</td></tr>", "Host vpn_gw_01 Berlin"),
        ("<tr><td><p>A</p><td><p>1</p><tr><td>B<td>2", "A 1\nB 2"),
        ("<tr><td><p>Hello</p><p>first</p><p>second</p></td></tr>", "\nHello\n\nfirst\n\nsecond\n"),
        ("<tr><td><img src='x'></td><td>Hello<br>first</td></tr>", "Hello\nfirst"),
        (f"<tr><td>Menu</td><td>{'<p>a</p>' * 9}</td></tr>", "Menu\n\n" + "a\n\n" * 8 + "a\n"),
        ("<tr><td>x</td><td><table><tr><td>A</td><td>1</td></tr><tr><td>B</td><td>2</table></td></tr>", "x\nA 1\nB 2"),
        ("<tr><td>1</td><td><pre>a\n  b</pre></td></tr>", "1\na\n  b"),
    ],
)
def test_a_row_of_data_is_one_line_and_a_layout_keeps_its_lines(html: str, text: str) -> None:
    assert text_of(f"before<table>{html}</table>after") == f"before\n{text}\nafter"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<a name="top">Top</a>', "Top"),
        ('<a href="https://a.example/">https://a.example</a> <a href="http://www.b.example">b.example</a>', "https://a.example b.example"),
        ('<a href="https://a.example/1">one</a>, <a href="https://a.example/1">again</a>', "one (https://a.example/1), again"),
        ('https://a.example/1 <a href="https://a.example/1">here</a>', "https://a.example/1 here"),
        ('<a href="https://a.example/?a=1&amp;b=2&copy=3"><img src="x"></a>', "(https://a.example/?a=1&b=2&copy=3)"),
        ('<a href="javascript:go()">a</a><a href="data:text/html,x">b</a><a href="#top">c</a><a href="/x">d</a>', "abcd"),
        ('<a href="cid:1@2">a</a><a href="JavaScript://%0Ago()">b</a><a href="file:///C:/x">c</a><a href="">d</a>', "abcd"),
        ('<a href="mailto:it@example.com?subject=x">it@example.com</a>', "it@example.com"),
        ('<a href="mailto:it@example.com?subject=x">us</a>', "us (mailto:it@example.com)"),
        ('<a href="tel:+49301234">+49 (30) 12 34</a>', "+49 (30) 12 34"),
        (r'<a href="\\files\it">share</a>', r"share (\\files\it)"),
        (f'<a href="{safe("https://a.example/1?b=2")}">one</a>', "one (https://a.example/1?b=2)"),
        (f'<a href="{safe(safe("https://a.example/1"))}">{safe("https://a.example/1")}</a>', "https://a.example/1"),
        (f'<a href="{safe("javascript:go()")}">one</a>', f"one ({safe('javascript:go()')})"),
        ('<a href="https://urldefense.proofpoint.com/v2/url?u=https-3A__a.example_1&d=x">one</a>', "one (https://a.example/1)"),
        ('<a href="https://a.example/1">one <a href="https://a.example/2">two', "one (https://a.example/1) two\n(https://a.example/2)"),
    ],
)  # fmt: skip
def test_an_address_is_shown_once_if_somebody_can_open_it(html: str, text: str) -> None:
    assert text_of(f"<div>{html}</div>") == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<label>Name</label><button>Save</button>", "Name Save"),
        ("Priority <select><option>High<option selected>Low</select>!", "Priority High Low !"),
        ("<textarea rows=3>\na <b>\n  c&amp;d</textarea>", "a <b>\n  c&d"),
        ("<fieldset><legend>Site</legend>Berlin</fieldset>", "Site\nBerlin"),
        ("<details><summary>More</summary>text</details>", "More\ntext"),
        ("a<div style='white-space: pre-wrap'>1\n  2<div>3</div>4\n5</div>b  c", "a\n1\n  2\n3\n4\n5\nb c"),
        ("<span STYLE='white-space:pre-line'>1  2\n  3<span>4\n5</span></span>\n6", "1 2\n34\n5 6"),
        ("<pre>a\n<span style='white-space: normal'>b\nc</span>\nd</pre>", "a\nb c\nd"),
        ("<ol start='3'><li>a<li value=7><p>b</p></li><li>c</ol>", "3. a\n  7. b\n\n  8. c"),
        ("<table>lost<tr><td>cell</td></tr></table>", "lost\ncell"),
        ("<noscript>a</noscript><template>b</template><iframe>c</iframe><video>d</video>", "ab c d"),
        ("a<p>&nbsp;</p>b<br>&nbsp;\u00a0<br>c", "a\n\nb\n\nc"),
    ],
)
def test_nothing_that_can_be_read_is_lost_or_glued(html: str, text: str) -> None:
    assert text_of(f"<div>{html}</div>") == text


@BOTH
@pytest.mark.parametrize("around", ["{}", "<p>{}</p>"])
def test_a_word_is_stored_as_it_is_typed(read: type[str], around: str) -> None:
    stored = read(around.format("\ufeffPass\u00adwort zuru\u0308ck\u200bsetzen,\u00a010\u00a0MB \u2060👩\u200d💻"))
    assert stored == "Passwort zurücksetzen, 10 MB 👩\u200d💻"


@BOTH
def test_line_ends_are_line_feeds_and_a_line_of_blanks_that_nobody_sees_is_empty(read: type[str]) -> None:
    assert read("a\r\nb\rc\n\u00a0 \u00a0\nd\u00a0") == "a\nb\nc\n\nd "


def test_a_letter_with_thousands_of_marks_holds_up_nobody_and_spoils_no_other_line() -> None:
    """Python sorts marks in a time that grows with their square: these took minutes."""
    heap = "a" + "\u0300\u0323" * 200_000
    assert text_of(f"<p>{heap}</p>zuru\u0308ck") == f"{heap}\n\nzurück"


def test_quoted_history_is_cut_before_what_was_written() -> None:
    quoted = "<blockquote>" + "".join(f"<p>old {number}</p>" for number in range(1000)) + "</blockquote>"
    text = text_of(f"<p>above</p>{quoted}<p>{'below ' * 100}</p>", 1000)
    assert len(text) <= 1000
    assert re.search(
        r"\Aabove\n\nold 0\n\nold 1\n.*\n\[cut here: the text is longer than 1,000 characters\]\n", text, re.DOTALL
    )
    assert text.endswith("below " * 99 + "below")
    assert len(text) > 950  # there is as much of it as there is room for


@pytest.mark.parametrize(
    "history",
    [
        "<div class='gmail_quote'><div>{}</div></div>",
        "<div id=yahoo_quoted_1 class=yahoo_quoted>{}</div>",
        "<blockquote><table><tr><td>{}</td></tr></table></blockquote>",
        "<div>&gt; {}</div>",
    ],
)
def test_every_form_of_quoted_history_goes_first(history: str) -> None:
    text = text_of(history.format("old " * 1000) + "<p>what I wrote</p>", 200)
    assert text.startswith(("old", "> old"))
    assert re.search(r"\[cut here: the text is longer than 200 characters\]\n+what I wrote\Z", text)
    plain = text_of("> old\n" * 100 + "what I wrote", 200)
    assert plain.endswith("[cut here: the text is longer than 200 characters]\nwhat I wrote")


def test_where_even_what_was_written_is_too_long_it_alone_is_cut() -> None:
    text = text_of("<blockquote>old</blockquote>" + "x" * 300, 200)
    assert text == "x" * 149 + "\n[cut here: the text is longer than 200 characters]"


def test_forty_safe_links_leave_what_was_written() -> None:
    links = "".join(f'<a href="{safe(f"https://kb.example.com/{number}")}">KB {number}</a><br>' for number in range(40))
    description = test_native.decode(description=f"<div>{links}</div><p>What the person wrote.</p>").description
    assert description.startswith("VPN drops\n\nKB 0 (https://kb.example.com/0)\nKB 1 (https://kb.example.com/1)\n")
    assert description.endswith("\n\nWhat the person wrote.")
    assert "cut here" not in description


def test_both_forms_have_the_same_texts() -> None:
    html, text = "<p>Mail <it@example.com>,</p><p>zuru\u0308ck</p>", "Mail <it@example.com>,\n\nzurück"
    native = test_native.decode(
        subject="<b>S</b>\u200b", description=html, resolution={"content": html}, tags=["e\u0301"]
    )
    ticket = test_flat.decode(
        subject="<b>S</b>\u200b", description=html, resolution=html, tags=["e\u0301"], priority="Ho\u0308ch"
    )
    assert (native.description, native.resolution, native.tags) == (f"S\n\n{text}", text, ["é"])
    assert (ticket.description, ticket.resolution, ticket.tags) == (f"S\n\n{text}", text, ["é"])
    assert ticket.priority == "Höch"


def test_the_server_reads_no_html_of_the_flat_form_either() -> None:
    """It checks the length of what was sent, and leaves the rest to the worker."""
    checked = event.check(json.dumps({**flat.EXAMPLE, "description": "<p>" * 4000}).encode(), Rules(10_000))
    assert [rule.field for rule in checked.broken] == ["description"]
