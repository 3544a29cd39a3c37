"""Plain files over https: resumed where they stopped, and never half a file under its real name."""

import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from arra_med.errors import RequestError, WorkError
from arra_med.progress import Progress
from arra_med.store import sha256_file

_CHUNK = 1 << 20
_ATTEMPTS = 3
_TIMEOUT = 60.0  # seconds without a byte


def download(url: str, path: Path, *, sha256: str | None = None, size: int | None = None) -> None:
    """Fetch ``url`` to ``path``; a download that stopped continues.

    Args:
        url: https, or http on this machine.
        path: written only when complete; ``<path>.part`` until then.
        sha256: expected hash.
        size: expected bytes.

    Raises:
        RequestError: if the URL is not https.
        WorkError: if it cannot be fetched, or is not what was expected.
    """
    _require_https(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(url, part)
            break
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == _ATTEMPTS:
                raise WorkError(
                    f"cannot fetch {url}: {error}. Run the same command again: it continues "
                    "where it stopped"
                ) from error
    found = part.stat().st_size
    if size is not None and found != size:
        _discard(part)
        raise WorkError(f"{url} has {found} bytes, expected {size}: the file there was replaced")
    if sha256 is not None and (digest := sha256_file(part)) != sha256:
        _discard(part)
        raise WorkError(
            f"{url} has SHA-256 {digest}, expected {sha256}: it was damaged on the way or replaced "
            "at its source; it was not kept"
        )
    part.rename(path)
    _discard(part)


def _receive(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks."""
    etag_file = part.with_name(f"{part.name}.etag")
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "arra-med", "Accept-Encoding": "identity"}
    if start and etag_file.is_file():
        # If-Range: the rest of the same file, or the whole of a changed one.
        headers |= {"Range": f"bytes={start}-", "If-Range": etag_file.read_text()}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # all of it is here already
        _discard(part)
        raise http.client.IncompleteRead(b"", None) from error
    with response:
        _require_https(response.url)
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0
        etag = response.headers.get("ETag", "")
        etag_file.write_text(etag) if etag and not etag.startswith("W/") else _discard_file(
            etag_file
        )
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        with (
            part.open("ab" if resumed else "wb") as file,
            Progress(total, unit="B", label=part.stem[:40]) as progress,
        ):
            progress.update(start)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    if length and (received := part.stat().st_size) != total:
        raise http.client.IncompleteRead(b"", total - received)


def _require_https(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not here:
        raise RequestError(f"{url} is not an https address")


def _discard(part: Path) -> None:
    for path in (part, part.with_name(f"{part.name}.etag")):
        _discard_file(path)


def _discard_file(path: Path) -> None:
    path.unlink(missing_ok=True)
