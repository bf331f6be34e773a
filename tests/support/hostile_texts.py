"""Texts that nobody should send: Hypothesis strategies for them, and some that cost too much or failed at first."""

import html

from hypothesis import strategies

MANY = 10_000_000

PIECES = (
    # Entities: of entities, out of range, of half a character, of no character, of any length, never closed.
    *(
        "&amp;amp;amp;eacute;",
        "&amp; nbsp;",
        "&eacute",
        "&#0;",
        "&#xD800;",
        "&#1114112;",
        "&#xFFFFFFFFFF;",
        "&",
        "&#",
        "&;",
    ),
    *(
        "&#" + "9" * 5000 + ";",
        "&#x" + "f" * 5000 + ";",
        "&" + "a" * 40 + ";",
        "&#00000000065;",
        "&CounterClockwiseContourIntegral;",
    ),
    # HTML: deep, never closed, closed twice, one in the other.
    *(
        "<div>",
        "</div>",
        "<a ",
        "<",
        ">",
        "<script>",
        "<SCRIPT",
        "</script",
        "</script >",
        "<style>",
        "</style>",
        "<!--",
        "-->",
    ),
    *(
        "<![CDATA[",
        "]]>",
        "<?php",
        "<p>",
        "<br/>",
        "<img src=x onerror=alert(1)>",
        "<a href='",
        '<a title=">">',
        "</",
        "<>",
    ),
    # What is not seen, what turns the reading direction, what stands on the letter before.
    *(
        "\x00",
        "\x01",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\x92",
        "\xa0",
        "\xad",
        "\r\n",
        "\t",
        " ",
        "\u2028",
        "\u3000",
        "\ufeff",
    ),
    *("\u200b", "\u200d", "\u200f", "\u202e", "\u2066", "\u2069", "\u0301", "\u0300\u0301\u0302", "\u20dd", "\ufe0f"),
    # Halves of characters, no characters, private ones, those of the last plane.
    *("\ud83d", "\ude00", "\ud83d\ude00", "\ufffe", "\uffff", "\ufffd", "\ue000", "\U0010ffff", "\U000e0041"),
    # Emoji made of several, flags, skin colours, letters that become many, letters that change their length.
    *(
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "🇫🇷",
        "👍🏽",
        "\ufdfa",
        "ﬁ",
        "İ",
        "ß",
        "½",
        "５Ｇ",
        "𝐜𝐡𝐚𝐢𝐬𝐞",
        "한국",
        "日本語",
        "שלום",
        "مرحبا",
        "ไทย",
    ),
    # Broken encodings.
    *("Ã©", "Â·", "â€™", "ï»¿", "grà¢ce", "¿uvre", "d¿¿eau", "Ãƒâ€šÃ‚Â", "\x80\x81", "aÃ©"),
    # Words.
    *(
        "piscine",
        "l'été",
        "pIn Ancient",
        "3,66 m",
        "_",
        "!",
        "1",
        "=cmd|' /C calc'!A0",
        "../../etc/passwd",
        "%s%n",
        "{0}",
        "\\",
    ),
)

CHARACTERS = strategies.characters(exclude_categories=())


def _repeated(piece: str, times: int) -> str:
    return piece * min(times, MANY // max(1, len(piece)))


def _nested(tag: str, depth: int, inside: str) -> str:
    return f"<{tag}>" * depth + inside + f"</{tag}>" * depth


def _misread(text: str, encoding: str) -> str:
    """UTF-8 read in another encoding."""
    return text.encode("utf-8", "surrogatepass").decode(encoding, "replace")


def _escaped(text: str, times: int) -> str:
    for _ in range(times):
        text = html.escape(text)
    return text


MIXED = strategies.lists(
    strategies.one_of(strategies.sampled_from(PIECES), strategies.text(CHARACTERS, max_size=20)), max_size=30
).map("".join)

TEXTS = strategies.one_of(
    strategies.just(""),
    strategies.text(CHARACTERS, max_size=200),
    MIXED,
    MIXED,
    strategies.lists(strategies.sampled_from(PIECES), max_size=60).map(" ".join),
    strategies.builds(
        _repeated, strategies.sampled_from(PIECES) | MIXED, strategies.sampled_from((2, 40, 700, 20_000))
    ),
    strategies.builds(
        _nested,
        strategies.sampled_from(("div", "b", "script", "a b='")),
        strategies.sampled_from((3, 500, 9000)),
        MIXED,
    ),
    strategies.builds(_misread, MIXED, strategies.sampled_from(("latin-1", "cp1252", "utf-16-le", "cp437"))),
    strategies.builds(_escaped, MIXED, strategies.integers(1, 4)),
)

# By what they are; each cost seconds or gigabytes, stopped a whole chunk, or might have.
EXTREME = {
    "ten million letters": "chaise " * (MANY // 7),
    "ten million angle brackets": "<" * MANY,
    "ten million spaces": " " * MANY,
    "a letter a million times": "a" * 1_000_000,
    "an accent a million times": "e" + "\u0301" * 1_000_000,
    "100,000 nested tags": _nested("div", 100_000, "chaise"),
    "scripts that never end": "<script" * 20_000,
    "scripts with one broken end": "<script>" * 2_000 + "</scripts>",
    "style sheets in scripts": "<script><style>" * 1_000 + "</style" * 1_000,
    "a number of 20,000 digits": "&#" + "9" * 19_990 + ";",
    "a number of 20,000 digits, escaped": "&amp;#" + "1" * 19_980 + ";",
    "entities of entities": "&amp;" * 2_000_000,
    "a zero-width space in every word of 500": ("a\u200b" * 350 + " ") * 40,
    "a zero-width space in every word of 140": ("a\u200b" * 70 + " ") * 140,
    "mojibake in every word of 500": ("aÃ©" * 166 + " ") * 40,
    "mojibake of ten million letters": "Ã©Â·â€™" * (MANY // 7),
    "one letter that becomes eighteen": "\ufdfa" * 20_000,
    "halves of characters": "\ud800" * 20_000,
    "10,000 words": "a " * 10_000,
    "emoji": "👩‍👩‍👧‍👦" * 100_000,
}
