"""``generate --preview``: a page on this machine to type a prompt and see pictures.

Python's own web server and one page of ours; nothing is loaded from elsewhere and nothing is
written. It listens on 127.0.0.1 only, answers only requests that name that host (a page of another
site that points its own name here gets nothing), and draws one request at a time.
"""

import base64
import json
import logging
import secrets
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from arra_med.errors import RequestError, WorkError
from arra_med.generation.generator import Generator, Picture
from arra_med.settings import Settings

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
PORT = 8765
MOST_PICTURES = 64
_LARGEST_REQUEST = 1 << 16  # bytes
_PAGE = Path(__file__).with_name("preview.html")
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'nonce-{nonce}'; "
    "style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Preview(ThreadingHTTPServer):
    """The server; ``serve_forever`` runs it.

    Args:
        generator: what draws.
        port: 0 for a free one.

    Raises:
        RequestError: if the port is taken.
    """

    daemon_threads = True

    def __init__(self, generator: Generator, port: int) -> None:
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise RequestError(
                f"cannot listen on {ADDRESS}, port {port}: {error}; choose another --port, or 0"
            ) from error
        self.generator = generator
        self.drawing = threading.Lock()
        self.state: dict[str, Any] = {"busy": False, "done": 0, "total": 0}
        self.began = time.monotonic()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names a request may call this server by."""
        return (f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}")

    def status(self) -> dict[str, Any]:
        """What the page shows of the work."""
        seconds = time.monotonic() - self.began if self.state["busy"] else 0.0
        defaults = self.generator.settings
        return self.state | {
            "seconds": round(seconds, 1),
            "model": self.generator.model,
            "warnings": self.generator.warnings,
            "guidance": defaults.generation.guidance,
            "num": defaults.generation.images_per_prompt,
            "seed": defaults.seed,
        }

    def draw(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Pictures for one prompt, as the page takes them.

        Raises:
            RequestError: if the request is wrong.
        """
        num, seed, guidance = (asked.get(name) for name in ("num", "seed", "guidance"))
        prompt = asked.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise RequestError("type a prompt first")
        if type(num) is not int or not 1 <= num <= MOST_PICTURES:
            raise RequestError(f"pictures: expected 1 to {MOST_PICTURES}")
        if type(seed) is not int or seed < 0:
            raise RequestError("seed: expected a whole number, 0 or more")
        if isinstance(guidance, bool) or not isinstance(guidance, int | float):
            raise RequestError("guidance: expected a number")
        self.began = time.monotonic()
        self.state = {"busy": True, "done": 0, "total": num}
        try:
            pictures = self.generator(
                [prompt], num=num, seed=seed, guidance=guidance, progress=self._progress
            )
        finally:
            self.state = self.state | {"busy": False}
        seconds = round(time.monotonic() - self.began, 1)
        return {"pictures": list(map(_shown, pictures)), "seconds": seconds}

    def _progress(self, done: int, total: int) -> None:
        self.state = {"busy": True, "done": done, "total": total}


def serve(settings: Settings, *, device: torch.device, port: int) -> None:
    """Show the page until interrupted.

    Raises:
        FileNotFoundError: if there is no model.
        RequestError: if the port is taken, or the model cannot draw.
    """
    generator = Generator(settings, device)
    for warning in generator.warnings:
        logger.warning("%s", warning)
    with Preview(generator, port) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        logger.info("open this page in a browser on this machine; end with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("the preview has ended")


def _shown(picture: Picture) -> dict[str, Any]:
    return {
        "index": picture.index,
        "png": "data:image/png;base64," + base64.b64encode(picture.png).decode(),
    }


class _Handler(BaseHTTPRequestHandler):
    server: Preview
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            page = _PAGE.read_text(encoding="utf-8").replace("{nonce}", nonce)
            self._answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", nonce)
        elif self.path == "/status":
            self._json(HTTPStatus.OK, self.server.status())
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        origin = self.headers.get("Origin")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json" or origin not in (
            None,
            *(f"http://{host}" for host in self.server.hosts),
        ):
            self._json(HTTPStatus.FORBIDDEN, {"error": "this page answers only its own requests"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST_REQUEST:
            self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "the request is too long"})
            return
        body = self.rfile.read(int(length))
        if self.path != "/draw":
            self._json(HTTPStatus.NOT_FOUND, {"error": "no such page"})
        elif not self.server.drawing.acquire(blocking=False):
            self._json(HTTPStatus.CONFLICT, {"error": "pictures are being drawn: wait for them"})
        else:
            try:
                answer = self._drawn(body)
            finally:
                self.server.drawing.release()  # first: who has an answer may ask again at once
            self._json(*answer)

    def _drawn(self, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        try:
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise RequestError("expected a JSON object")
            return HTTPStatus.OK, self.server.draw(asked)
        except ValueError as error:  # RequestError, settings and JSON among them
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except (WorkError, FileNotFoundError, RuntimeError) as error:
            logger.error("error: %s", error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}

    def _is_ours(self) -> bool:
        if self.headers.get("Host") in self.server.hosts:
            return True
        self._json(HTTPStatus.FORBIDDEN, {"error": f"open {self.server.url} instead"})
        return False

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, nonce: str = "none") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY.format(nonce=nonce),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a request's line is of no use here, and prompts never belong in a log."""
