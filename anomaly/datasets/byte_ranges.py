"""HTTP requests for a file or for the rest of it, with the failures that are worth another try."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from anomaly.errors import InputError

SCHEMES = ("http", "https")
_BLOCK = 1 << 16
_BUSY = (429, 500, 502, 503, 504)


class Cut(Exception):
    """The connection failed; the next try may continue."""


class Stale(Cut):
    """The local part of a file is not the beginning of the server's file; the next try must start over."""


@dataclass(frozen=True)
class Answer:
    """A file, or the rest of it, as a server sends it.

    Args:
        begin: Offset of the first byte in the file; 0 if the server cannot send only the rest.
        total: Length of the whole file in bytes; ``None`` if the server does not say.
        version: Values that identify this version of the file; ``None`` where the server does not say.
        content_type: Content type, in lower case and without parameters.
        blocks: The bytes from ``begin`` on; iteration raises ``Cut`` when the connection fails.
    """

    begin: int
    total: int | None
    version: dict[str, str | int | None]
    content_type: str
    blocks: Iterator[bytes]


@contextmanager
def answer(url: str, start: int, timeout: float) -> Iterator[Answer]:
    """Request a file from a byte on; the connection is open while the context is active.

    Args:
        url: Address of the file, http or https. Redirects are followed only to http or https.
        start: First byte that is needed, from 0.
        timeout: Seconds without an answer after which the connection counts as failed.

    Raises:
        Cut: The connection failed, or a server that sent the first ``start`` bytes cannot be reached any more.
        Stale: The server has no bytes from ``start`` on, or sends other bytes.
        InputError: The server cannot be reached, answers with an error, or redirects to another protocol.
    """
    with _open(url, start, timeout) as response:
        begin, total = 0, response.length
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            content_range = response.headers.get("Content-Range", "").strip()
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
            if found is None or int(found[1]) not in (0, start):
                raise Stale(f"expected the bytes from {start} on, the server sent {content_range!r}")
            begin, total = int(found[1]), None if found[2] == "*" else int(found[2])
        version = {
            "url": url,
            "etag": response.headers.get("ETag"),
            "modified": response.headers.get("Last-Modified"),
            "total": total,
        }
        blocks = iter(lambda: _read(response), b"")
        yield Answer(begin, total, version, response.headers.get_content_type(), blocks)


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "anomaly-download", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response: http.client.HTTPResponse = build_opener(_WebOnly).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise Stale(f"the server has no bytes from {start} on") from error
        remedy = "it may have moved or need a login: download it with a browser and put it in that folder"
        raise InputError(
            f"{url}: expected a file, found HTTP status {error.code} ({error.reason}); "
            f"{'run the same command again later' if error.code in _BUSY else remedy}"
        ) from error
    except (URLError, http.client.InvalidURL, ValueError) as error:
        if start:  # the server was reached before
            raise Cut(str(error)) from error
        raise InputError(
            f"{url}: expected a server that answers, found none ({error}); check the address, the network and the "
            "proxy, then run the same command again"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Cut(str(error) or type(error).__name__) from error
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Cut(str(error) or type(error).__name__) from error


class _WebOnly(HTTPRedirectHandler):
    """Follows redirects to http and https only; urllib would also follow them to ftp."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme not in SCHEMES:
            raise HTTPError(newurl, code, f"{msg} - Redirection to url '{newurl}' is not allowed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
