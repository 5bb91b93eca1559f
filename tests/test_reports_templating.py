"""Text of users in Markdown: it means itself, wherever a page puts it."""

from __future__ import annotations

import pytest
from conftest import HOSTILE
from markdown_it import MarkdownIt

from reports.pages.templating import markdown_text

SIGNS = ["#", "## a #", "C #", "- x", "+ x", "--", "=", "1. x", "123456789) x", "> x", "a *b* _c_ __d__", "snake_case", "&amp;"]
PLACES = {
    "{}": ["paragraph"],
    "# {}": ["heading"],
    "- {}": ["bullet_list", "list_item", "paragraph"],
    "| a |\n|---|\n| {} |": ["table", "thead", "tr", "th", "tbody", "tr", "td"],
}


@pytest.mark.parametrize("text", [*HOSTILE, *SIGNS])
def test_text_means_itself_wherever_it_stands(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for place, kinds in PLACES.items():
        tokens = reader.parse(place.format(markdown_text(text)))
        read = [token.children or [] for token in tokens if token.type == "inline"][-1]
        assert "".join(child.content for child in read) == " ".join(text.split())
        assert {child.type for child in read} <= {"text"}
        assert [token.type.removesuffix("_open") for token in tokens if token.type.endswith("_open")] == kinds


def test_numbers_and_names_are_left_as_they_are() -> None:
    for text in ("-1.5", "0.5", "-", "snake_case", "C#", "a - b + c = d", "2024-01-01. x", "a_b"):
        assert markdown_text(text) == text
