"""A Markdown page as a renderer that lets HTML through reads it, beside that of a plain study: the same shape, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from markdown_it import MarkdownIt

from hostile_texts.texts import called, heading, left_out, one_line

SHAPE = {"table_open", "th_open", "heading_open", "list_item_open", "image", "code_block"}  # no fewer of them


class Shape(NamedTuple):
    """What a page consists of; elements are counted by kind, targets are those of links and pictures.

    The paragraph in which a comparison says a name in full that it shortens is not counted: not every name has one.
    """

    title: str
    headings: list[str]
    elements: Counter[str]
    targets: set[str]
    cells: set[str]


def read_markdown(text: str) -> Shape:
    """The shape of a page."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    inline = [child for token in tokens for child in token.children or []]
    elements = Counter(token.type for token in [*tokens, *inline])
    elements["html"] = elements["html_block"] + elements["html_inline"]
    full = sum(" in full: " in token.content for token in tokens if token.type == "inline")
    elements.subtract(dict.fromkeys(("paragraph_open", "inline", "paragraph_close"), full))
    targets = {str(child.attrs.get("src") or child.attrs.get("href")) for child in inline if child.attrs}
    title, *headings = (following for token, following in pairwise(tokens) if token.type == "heading_open")
    cells = (following for token, following in pairwise(tokens) if token.type == "td_open")
    said = ["".join(child.content for child in each.children or []) for each in (title, *cells)]
    return Shape(said[0], [each.content for each in headings], elements, targets, set(said[1:]))


def faults_of(shape: Shape, usual: Shape, text: str) -> Iterator[tuple[str, object]]:
    """Faults of a page about the study of ``text``, beside the usual one of the plain study."""
    more = {kind for kind in shape.elements if shape.elements[kind] > usual.elements[kind]} - {"text", "softbreak"}
    if more or shape.targets - usual.targets:
        yield "Markdown with a foreign element", f"{more}, {shape.targets - usual.targets}"
    fewer = {kind for kind in SHAPE - left_out(text, "code_block") if shape.elements[kind] < usual.elements[kind]}
    if fewer or shape.headings != usual.headings:
        yield "Markdown of another shape", f"{fewer}, {shape.headings}, plain {usual.headings}"


def faults_of_words(shape: Shape, text: str, *, title: str) -> Iterator[tuple[str, object]]:
    """Whether the page of a report says the title and the text to the letter."""
    if shape.title != heading(title).replace("\0", "\ufffd"):  # as Markdown has it
        yield "page that says something else", repr(shape.title)
    if one_line(called(text)) not in shape.cells:  # the metric that is monitored
        yield "Markdown that says something else", f"no cell {one_line(called(text))!r}"
