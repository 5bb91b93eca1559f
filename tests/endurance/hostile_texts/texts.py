"""What a person, or somebody who means harm, may call a study, a metric, a class or an option, or write into an exception."""

from __future__ import annotations

PLAIN = "plain"  # what the study is called that all others are compared with
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</textarea></title><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<a href="javascript:alert(1)">click</a>',
    "<b onmouseover=alert(1)>bold</b>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    "[link](javascript:alert(1))",
    "![image](https://example.invalid/x.png)",
    "<https://example.invalid>",
    "https://example.invalid/<b>",
    "<!--",
    "--><script>alert(1)</script>",
    "<![CDATA[",
    "<details open ontoggle=alert(1)>",
    "<style>*{display:none}</style>",
    "<base href=//example.invalid><meta http-equiv=refresh content=0;url=//example.invalid>",
    "<template><form action=//example.invalid><button>",
    "__proto__",
    "constructor",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "${alert(1)}",
    "`${alert(1)}`",
    "$\\evil$",
    "$\\frac{1}{",
    "\\",
    "\\n\\t",
    "$$",
    "%s %d %(name)s {0} {name}",
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("https://example.invalid","click")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "＝1+1",
    "'=1",
    "x;=1+1",
    "x\n=1+1\t@SUM(1)",
    "; DROP TABLE studies; --",
    "' OR '1'='1",
    "../../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "C:\\CON",
    "NaN",
    "null",
    "None",
    "1e999",
    "| a | b |",
    "# heading",
    "## heading #",
    "1. first",
    "+ item",
    "===",
    "```\ncode\n```",
    "- [x] done\n\n---",
    "\x1b[2J\x1b]0;title\x07",
    "שלום \u202e txt.exe",
    "\u2067\u2066 isolated",
    "مرحبا بالعالم",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈",
    "Z̷̢̛a̸l̵g̶o̴",
    "零一二三四五六七八九",
    "\u200b\ufeff invisible",
    "line\nbreak\r\nand\ttab",
    "x" * 600,
    "wide " * 120,
    "<" * 300,
]
ON_DISK = ["\0 nul", "\ud800 half a character", "\x9b31m"]  # what no name of a class or study can hold


def stored(text: str) -> str:
    """A text as a database holds it, which takes no half of a character."""
    return text.encode(errors="backslashreplace").decode()


def called(text: str) -> str:
    """A text as a class and a metric can be called."""
    return stored(text.replace("\0", "\\0"))


def one_line(text: str) -> str:
    """A text as pages write it."""
    return " ".join(text.split())


def heading(title: str) -> str:
    """What stands at the head of the report of a study."""
    return f"{one_line(title)}: which learning rates work"


def left_out(text: str, element: str) -> set[str]:
    """The element of a command to run next where there is none: a text that cannot be printed is not to be pasted."""
    return set() if text.isprintable() else {element}
