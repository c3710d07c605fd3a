"""A web server for one visitor: it serves a fixed table of routes behind a random token, and nothing else."""

import hmac
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import NamedTuple
from urllib.parse import parse_qsl

from kd2mobile.errors import DeviceError, RecipeError

SLOWEST_CLIENT_S = 60
LAST_ANSWERS_S = 2
ELSEWHERE = ("192.0.2.1", 9)
"""An address that RFC 5737 reserves. This host's own address on the route to it is the one that other machines can
reach. Nothing is sent."""
_NEEDS_TOKEN = "This address needs its token: open the complete URL shown in the terminal."
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The first two make the page cross-origin isolated: otherwise a browser gives it neither threads nor a fine clock."""


class Reply(NamedTuple):
    """body: its bytes, or the file that holds them. lasting: whether the browser may cache it. location: of a
    redirect."""

    kind: str
    body: bytes | Path
    status: HTTPStatus = HTTPStatus.OK
    lasting: bool = False
    location: str | None = None


class Refusal(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, line: str):
        super().__init__(line)
        self.status, self.line = status, line


class Route(NamedTuple):
    """answer: a function from the query and the body to the reply; it may raise Refusal. most_bytes: limit of a
    body."""

    answer: Callable[[dict[str, str], bytes], Reply]
    most_bytes: int = 0


Routes = Mapping[tuple[str, str], Route]
"""By method and path: ("GET", "page.js"). A path is looked up exactly as it was sent: it is never decoded and never
joined to a folder."""


@contextmanager
def serve(
    routes: Routes, *, lan: bool = False, port: int = 0, tls: tuple[Path, Path] | None = None, policy: str = ""
) -> Iterator[str]:
    """Serves the routes to whoever knows the URL that is yielded, until the block ends.

    lan: whether also to other machines. port: 0 for any free one. tls: certificate and key, PEM. policy: the
    Content-Security-Policy. Raises DeviceError if the port is not free, RecipeError for the certificate or the key.
    """
    context = tls_context(*tls) if tls else None
    token = secrets.token_urlsafe(16)
    try:
        server = _Server(("0.0.0.0" if lan else "127.0.0.1", port), _handler(routes, token, policy))
    except (OSError, OverflowError) as fault:
        free = "Give another --port, or leave it out for any free one."
        raise DeviceError(f"--port {port}", "must be a free port", getattr(fault, "strerror", fault), free) from fault
    server.context = context
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        host = own_address() if lan else "127.0.0.1"
        yield f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}/{token}/"
    finally:
        server.shutdown()
        server.last_answers()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False
    context: ssl.SSLContext | None = None

    def __init__(self, *arguments):
        self.answering, self._changed = 0, Condition()
        super().__init__(*arguments)

    @contextmanager
    def an_answer(self) -> Iterator[None]:
        """Around each answer, so that none is cut off when the server ends."""
        with self._changed:
            self.answering += 1
        try:
            yield
        finally:
            with self._changed:
                self.answering -= 1
                self._changed.notify_all()

    def last_answers(self) -> None:
        """Waits a moment for the answers in progress."""
        with self._changed:
            self._changed.wait_for(lambda: not self.answering, timeout=LAST_ANSWERS_S)

    def finish_request(self, request, client_address):
        """Runs in the thread of the connection, so that a client with a slow handshake does not delay others."""
        request.settimeout(SLOWEST_CLIENT_S)
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request, client_address):
        """Ignores a client that breaks off; an exception in a route has become a 500 already."""


def _handler(routes: Routes, token: str, policy: str) -> type[BaseHTTPRequestHandler]:
    headers = HEADERS | ({"Content-Security-Policy": policy} if policy else {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "kd2mobile", ""

        def do_GET(self):
            self._answer("GET")

        def do_POST(self):
            self._answer("POST")

        def _answer(self, method: str) -> None:
            with self.server.an_answer():
                try:
                    reply = self._reply(method)
                except Refusal as refusal:
                    self.close_connection = True  # its body may not have been read
                    reply = Reply("text/plain; charset=utf-8", f"{refusal.line}\n".encode(), refusal.status)
                self._send(reply)

        def _reply(self, method: str) -> Reply:
            path, _, query = self.path.partition("?")
            given_token, slash, resource = path.removeprefix("/").partition("/")
            if not hmac.compare_digest(given_token.encode(), token.encode()):
                raise Refusal(HTTPStatus.FORBIDDEN, _NEEDS_TOKEN)
            if method == "GET" and not slash:  # what the page fetches stands below the slash
                self._body(0)
                return Reply("text/plain", b"", HTTPStatus.PERMANENT_REDIRECT, location=f"/{token}/")
            route = routes.get((method, resource))
            if route is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
            body = self._body(route.most_bytes)
            return route.answer(dict(parse_qsl(query)), body)

        def _body(self, most: int) -> bytes:
            length = self.headers.get("Content-Length", "0")
            if "Transfer-Encoding" in self.headers or not length.isascii() or not length.isdecimal():
                raise Refusal(HTTPStatus.LENGTH_REQUIRED, "A request body must declare its length.")
            if int(length) > most:
                line = f"A request body must be at most {most} bytes here, got {length}."
                raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, line)
            body = self.rfile.read(int(length))
            if len(body) != int(length):
                raise Refusal(
                    HTTPStatus.BAD_REQUEST, f"A request body must be complete, got {len(body)} of {length} bytes."
                )
            return body

        def _send(self, reply: Reply) -> None:
            body = reply.body.read_bytes() if isinstance(reply.body, Path) else reply.body
            self.send_response(reply.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Cache-Control", "max-age=86400, immutable" if reply.lasting else "no-store")
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body)))
            if reply.location:
                self.send_header("Location", reply.location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            """Logs nothing, because every path contains the token."""

    return Handler


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The context of a server for https. Raises RecipeError unless the files are a certificate and its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as fault:  # ssl.SSLError is an OSError
        pair = "Give the PEM files of a certificate and of its key, without a passphrase."
        raise RecipeError(
            "--tls", "must be a certificate and its key", f"{certificate}, {key}: {fault}", pair
        ) from fault
    return context


def own_address() -> str:
    """This host's own address in its network, or its name if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
