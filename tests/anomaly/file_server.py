"""A web server on this machine that serves one file and misbehaves as told."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, how, and what was asked."""

    data: bytes = b""
    etag: str | None = '"1"'
    modified: str | None = None
    type: str = "application/octet-stream"
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes of the file after which connections end, one per request
    status: int = 200
    location: str = ""
    announced: int | None = None  # a lie as Content-Length
    unsized: bool = False  # no Content-Length: the body ends with the connection
    chunked: bool = False
    hang: bool = False
    stall: bool = False  # after a cut the connection stays open and nothing more comes
    endless: bool = False
    wrong_range: bool = False
    asked: list[str | None] = field(default_factory=list)  # the Range of every request
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.site
        site.asked.append(self.headers["Range"])
        if site.hang:
            time.sleep(1.5)
            return
        if site.status != 200:
            self.send_response(site.status)
            self.send_header("Location", site.location)
            self.end_headers()
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "") if site.ranges else None
        start = int(found[1]) if found else 0
        if start and start >= len(site.data):
            self.send_response(416)
            self.end_headers()
            return
        self.protocol_version = "HTTP/1.1"
        self.send_response(206 if found else 200)
        if found:
            first = start + 7 * site.wrong_range
            self.send_header("Content-Range", f"bytes {first}-{len(site.data) - 1}/{len(site.data)}")
        self._headers(len(site.data) - start)
        self._body(start)

    def _headers(self, length):
        site = self.site
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not site.unsized:
            self.send_header("Content-Length", str(length if site.announced is None else site.announced))
        for name, value in (("ETag", site.etag), ("Last-Modified", site.modified), ("Content-Type", site.type)):
            if value is not None:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, start):
        site = self.site
        stalls = site.stall and bool(site.cuts)
        end = site.cuts.pop(0) if site.cuts else len(site.data)
        try:
            if site.chunked:
                self.wfile.write(b"%x\r\n" % (len(site.data) - start) + site.data[start:end])
                self.wfile.write(b"\r\n0\r\n\r\n" if end == len(site.data) else b"")
            else:
                self.wfile.write(site.data[start:end])
            while site.endless:
                self.wfile.write(bytes(1 << 16))
            if stalls:
                time.sleep(30)
        except OSError:
            pass
        self.close_connection = True


@contextmanager
def serving(**settings):
    """Serve a file at ``site.url`` while the block runs; the site can be changed between requests."""
    site = Site(**settings)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site})) as server:
        server.daemon_threads = True
        server.block_on_close = False
        site.url = f"http://127.0.0.1:{server.server_address[1]}/data.zip"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
