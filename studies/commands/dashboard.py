"""Open Optuna Dashboard on the studies of a storage, on this machine only."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Sequence
from typing import Any

from studies.command_line import make_parser, parse

HOST = "127.0.0.1"  # the dashboard has no authentication: whoever reaches it can delete


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = make_parser(__doc__, "dashboard")
    parser.add_argument(
        "--storage", default="outputs/studies.db", metavar="FILE", help="where the studies are (default: outputs/studies.db)"
    )
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port on 127.0.0.1 (default: 8080)")
    parser.add_argument("--browser", choices=("yes", "no"), default="yes", help="open a browser window (default: yes)")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    options = parse_args(argv)
    port = options["port"]
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be between 1 and 65535, got {port}")
    from studies.storage import check_storage, open_storage

    url = check_storage(options["storage"], must_exist=True)
    from optuna_dashboard import run_server

    address = f"http://{HOST}:{port}"
    print(f"Optuna Dashboard: {address} (Ctrl-C ends it)", flush=True)
    if options["browser"] == "yes":
        threading.Timer(1.0, webbrowser.open, [address]).start()
    run_server(open_storage(url), host=HOST, port=port)
    return 0
