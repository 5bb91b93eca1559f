"""Serve a web page to this machine alone: on 127.0.0.1, and to no other site's pages."""

import errno
import logging
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from studies.errors import BadInput

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser here may call it

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


class LocalServer(ThreadingMixIn, WSGIServer):
    """A thread a request: a page asks for much at once, and one slow answer must not hold up the others."""

    daemon_threads = True
    request_queue_size = 64

    @property
    def address(self) -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self.server_port}"


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are told to the log, not to the terminal."""
        logger.debug(format, *args)


def listen(port: int) -> LocalServer:
    """A server that listens already and answers once it has an application and serves; port: 0 for any that is free.

    Raises ValueError when the port is not to be had.
    """
    try:
        return make_server(HOST, port, _nothing, server_class=LocalServer, handler_class=_Handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "is not for everybody"
        raise BadInput(f"port must be one that is free, {port} {why}: --port 0 takes any free one") from error


def refuse_strangers(app: App) -> App:
    """The application for this machine's browser and programs; 403 for other sites' pages, though they are in that browser.

    Such a page can point a name of its own at 127.0.0.1 and then read and delete what is served there (DNS rebinding): its
    requests still carry that name. Or it sends forms, shows what is served in a frame, and asks for pictures: the browser says
    whose request it is. A link to here may stand anywhere.
    """

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").lower()
        if host.partition(":")[0] not in NAMES:
            refusal = f"Call it {' or '.join(NAMES)}: it is for this machine only."
        elif _of_another_site(environ, host):
            refusal = "It answers its own pages only, not those of other sites."
        else:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{refusal}\n".encode()]

    return guarded


def _of_another_site(environ: Mapping[str, Any], host: str) -> bool:
    if environ.get("HTTP_ORIGIN", f"http://{host}").lower().partition("://")[2] != host:
        return True
    link = environ["REQUEST_METHOD"] == "GET" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    return not link and environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin")


def never_empty(app: App) -> App:
    """The application with ``{}`` where it says no more than that all went well (204).

    The page of Optuna Dashboard 0.21 reads JSON from every answer, and tells of a deletion or a saved note as failed without.
    """

    def filled(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        fill: list[bytes] = []

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if status.startswith("204"):
                fill.append(b"{}")
                status, headers = "200 OK", [header for header in headers if header[0].lower() != "content-length"]
            return start_response(status, headers, *error)

        return app(environ, start) or fill

    return filled


def _nothing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("503 Service Unavailable", [])
    return []
