"""What brings a page to life: our scripts and plotly.js inside it, what they show, and a policy that allows no others."""

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any, NamedTuple

from plotly.offline import get_plotlyjs

from reports.charts.marks import Chart

SCRIPTS = resources.files("reports.pages").joinpath("templates")


def page_scripts(data: Mapping[str, Any], *scripts: str) -> dict[str, str]:
    """For a template: ``script``, ``packed_data``, ``packed_plotly``, and ``script_hashes`` for its Content-Security-Policy.

    data: plain JSON, numbers finite or None. scripts: names of files in ``templates``, in the order in which they run.
    """
    script = "".join(SCRIPTS.joinpath(name).read_text(encoding="utf-8") for name in scripts)
    plotly = _plotly()
    return {
        "script": script,
        "packed_data": pack(to_json(data)),
        "packed_plotly": plotly.packed,
        "script_hashes": f"{_hash(script)} {plotly.hashed}",
    }


def reserved_pixels(charts: Mapping[str, Chart]) -> dict[str, int]:
    """In pixels what a page keeps free for each chart before it is drawn, so that nothing moves when it is."""
    return {name: chart["layout"]["height"] for name, chart in charts.items()}


def pack(text: str) -> str:
    """Text as a page can hold it without escaping, a third as long or less: gzip, then base64."""
    return base64.b64encode(gzip.compress(text.encode(errors="backslashreplace"), compresslevel=6, mtime=0)).decode()


def to_json(value: Mapping[str, Any]) -> str:
    """JSON without spaces; raises ValueError for a number that JSON has no word for."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=lambda number: number.item())  # NumPy's


class _Library(NamedTuple):
    packed: str
    hashed: str


@cache
def _plotly() -> _Library:
    source = get_plotlyjs()
    return _Library(pack(source), _hash(source))


def _hash(script: str) -> str:
    """A script's name in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'"
