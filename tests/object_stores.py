"""Servers of videos for tests: a web server, an S3 store, and what stands before both and misbehaves when asked to."""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.server
import threading
import time
from collections.abc import Iterator

FAULTS = ("refused", "missing", "truncated", "silent", "broken", "dripping")
"""A path that holds one of these words, between slashes, has the fault."""


class FaultyProxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on to another server, unless their path names a fault."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    passed: list[str]
    """Methods and paths of the requests, shared by all handlers of a server."""

    def do(self) -> None:
        fault = next((word for word in FAULTS if f"/{word}/" in self.path), "")
        self.passed.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault in ("refused", "broken", "missing"):
            self.send_response({"refused": 403, "broken": 503, "missing": 404}[fault])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "silent" and self.command == "GET":
            time.sleep(3)
            self.close_connection = True
            return
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked has gone
            if fault == "truncated" and self.command == "GET":
                content = content[: len(content) // 2]
            for at in range(0, len(content), 16) if fault == "dripping" else ():
                self.wfile.write(content[at : at + 16])
                time.sleep(0.2)
            if fault != "dripping":
                self.wfile.write(content)
        self.close_connection = fault != ""

    do_GET = do_HEAD = do_PUT = do_POST = do

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type) -> Iterator[str]:
    """Run a server on a port of this machine; yields ``host:port``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def web_server(folder: str) -> Iterator[str]:
    """Serve the files of a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with serving(functools.partial(Quiet, directory=folder)) as address:  # type: ignore[arg-type]
        yield address


@contextlib.contextmanager
def faulty(upstream: str) -> Iterator[tuple[str, list[str]]]:
    """Stand before a server; yields ``host:port`` and the list of what was asked."""
    asked: list[str] = []
    handler = type("Handler", (FaultyProxy,), {"upstream": upstream, "passed": asked})
    with serving(handler) as address:
        yield address, asked
