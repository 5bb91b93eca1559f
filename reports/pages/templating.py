"""How pages are made: jinja2 with all text escaped, Markdown in which text means itself, pictures inside the page."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image

# What Markdown reads as more than itself: anywhere, where a word begins or ends, and at the start of a line.
SIGNS = re.compile(r"[\\`*\[\]<>|$~]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#|^[-+](?=\s)|^-(?=-+$)|^=(?==*$)")
NUMBER = re.compile(r"^(\d{1,9})([.)])(?!\S)")  # of an item of a list


def environment(**options: Any) -> Environment:
    """Where templates come from; text is escaped in those for HTML, options are jinja2's."""
    escaped = select_autoescape(enabled_extensions=("html.jinja",))
    loader = PackageLoader("reports.pages")
    kept: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(loader=loader, autoescape=escaped, undefined=StrictUndefined, **kept, **options)


def markdown_text(value: Any) -> Any:
    """Text that means itself in Markdown, in a table and at the start of a line too.

    No tags, links, headings, lists, formulas, new columns or lines.
    """
    if isinstance(value, Markup):
        return value
    line = " ".join(str(value).split()).replace("&", "&amp;")
    return NUMBER.sub(r"\1\\\2", SIGNS.sub(r"\\\g<0>", line))


def flat_options(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as pairs, with dotted names as on a command line."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def picture_source(png: bytes) -> str:
    """A picture as a page holds it: WebP without loss, a third of the PNG's size."""
    buffer = BytesIO()
    with Image.open(BytesIO(png)) as image:
        image.convert("RGB").save(buffer, "webp", lossless=True, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
