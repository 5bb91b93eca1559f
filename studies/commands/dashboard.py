"""Open Optuna Dashboard on the studies of a storage, on this machine only, with verdicts, charts and notes."""

import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from studies.commands.command_line import add_storage, make_parser, parse
from studies.errors import BadInput
from studies.storage.interrupts import interruptible

WRITABLE = "serve the studies themselves, without verdicts: what is changed or deleted there is changed for good"


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = make_parser(__doc__, "dashboard")
    add_storage(parser, "the studies are")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port, 0 for any that is free (default: 8080)")
    parser.add_argument("--browser", choices=("yes", "no"), default="yes", help="open a browser window (default: yes)")
    parser.add_argument("--writable", action="store_true", help=WRITABLE)
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    options = parse_args(argv)
    if not 0 <= options["port"] <= 65535:
        raise BadInput(f"port must be between 0 and 65535, got {options['port']}")
    from studies.dashboard.first_look import ours_first
    from studies.dashboard.local_server import listen, never_empty, refuse_strangers
    from studies.storage.writable import check_storage

    url = check_storage(options["storage"], must_exist=True)
    with listen(options["port"]) as server, suppress(KeyboardInterrupt), interruptible():
        with _served(url, writable=options["writable"]) as (app, what):
            server.set_app(refuse_strangers(never_empty(ours_first(app))))
            print(f"Optuna Dashboard: {server.address} ({what}; Ctrl-C ends it)", flush=True)
            if options["browser"] == "yes":
                first = server.address + getattr(app, "first_page", "")
                threading.Thread(target=webbrowser.open, args=[first], daemon=True).start()
            server.serve_forever()
    return 0


@contextmanager
def _served(url: str, *, writable: bool) -> Iterator[tuple[Any, str]]:
    """The dashboard as an application, and in words what it shows."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # making the copy would be told each time
    from studies.storage.opening import open_storage, open_to_read

    if writable:
        from optuna_dashboard import wsgi

        yield wsgi(open_storage(url)), "the studies themselves: what is deleted there is gone"
        return
    from studies.dashboard.snapshot import Snapshot

    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        snapshot = Snapshot(open_to_read(url), Path(folder))
        follower = threading.Thread(target=snapshot.follow, args=[stopped], daemon=True)
        follower.start()
        try:
            yield snapshot, "a copy that follows the studies: what is deleted there is not lost"
        finally:
            stopped.set()
            follower.join(5)
