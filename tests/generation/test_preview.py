"""The preview's page: in a browser, and against requests that are not the page's."""

import base64
import http.client
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch

from arra_med.errors import RequestError
from arra_med.generation.generator import Generator
from arra_med.generation.preview import ADDRESS, Preview
from arra_med.images import decode_png

CPU = torch.device("cpu")
ASKED = {"prompt": "left effusion.", "num": 2, "seed": 3, "guidance": 2.0}


@pytest.fixture
def preview(export: Path) -> Iterator[Preview]:
    generator = Generator.from_export(export, device=CPU, guidance=2, top_k=8)
    with Preview(generator, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    preview: Preview, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(ADDRESS, preview.server_port, timeout=300)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str | None) else json.dumps(body)
    connection.request(method, path, text, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(data) if is_json else data.decode(), answer.headers


def test_it_draws_what_the_generator_draws(preview: Preview, export: Path) -> None:
    status, told, _ = ask(preview, "POST", "/draw", ASKED)
    assert status == 200
    expected = Generator.from_export(export, device=CPU, top_k=8)(
        [ASKED["prompt"]], num=2, seed=3, guidance=2
    )
    pngs = [base64.b64decode(picture["png"].partition(",")[2]) for picture in told["pictures"]]
    assert pngs == [picture.png for picture in expected]
    assert decode_png(pngs[0]).shape == (32, 32, 1)


def test_the_status_says_model_and_work(preview: Preview) -> None:
    _, told, _ = ask(preview, "GET", "/status")
    assert re.fullmatch(r"llama-arra-tiny \([0-9a-f]{12}\)", told["model"])
    assert (told["busy"], told["guidance"], told["num"], told["seed"]) == (False, 2, 1, 0)
    ask(preview, "POST", "/draw", ASKED)
    _, told, _ = ask(preview, "GET", "/status")
    assert (told["busy"], told["done"], told["total"]) == (False, 2, 2)


def test_it_listens_on_this_machine_only(preview: Preview) -> None:
    assert preview.server_address[0] == "127.0.0.1"
    with pytest.raises(RequestError, match="choose another --port"):
        Preview(preview.generator, preview.server_port)


def test_other_names_and_other_sites_get_nothing(preview: Preview) -> None:
    port = preview.server_port
    for path in ("/", "/status"):
        assert ask(preview, "GET", path, Host=f"evil.example:{port}")[0] == 403
        assert ask(preview, "GET", path, Host=f"localhost:{port}")[0] == 200
    assert ask(preview, "POST", "/draw", ASKED, Host="evil.example")[0] == 403
    assert ask(preview, "POST", "/draw", ASKED, Origin="http://evil.example")[0] == 403
    assert ask(preview, "POST", "/draw", ASKED, Origin=f"http://{ADDRESS}:{port}")[0] == 200
    assert ask(preview, "POST", "/draw", ASKED, Content_Type="text/plain")[0] == 403
    assert ask(preview, "GET", "/etc/passwd")[0] == 404
    assert ask(preview, "POST", "/other", ASKED)[0] == 404


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": " "}, "type a prompt first"),
        ({"prompt": None}, "type a prompt first"),
        ({"num": 65}, "1 to 64"),
        ({"num": True}, "1 to 64"),
        ({"seed": 1.5}, "whole number"),
        ({"guidance": "4"}, "expected a number"),
        ({"guidance": -1}, "guidance must be 0 or more"),
        ({"prompt": "long " * 400}, "longer than the 128 tokens"),
    ],
)
def test_wrong_requests_are_told_why(preview: Preview, wrong: dict, message: str) -> None:
    status, told, _ = ask(preview, "POST", "/draw", ASKED | wrong)
    assert status == 400
    assert message in told["error"]


def test_broken_requests_end_well(preview: Preview) -> None:
    for body in ("{", "[]", "NaN"):
        assert ask(preview, "POST", "/draw", body)[0] == 400
    assert ask(preview, "POST", "/draw", {"prompt": "x" * 70_000})[0] == 413
    preview.drawing.acquire()
    assert ask(preview, "POST", "/draw", ASKED)[0] == 409
    preview.drawing.release()
    assert ask(preview, "POST", "/draw", ASKED)[0] == 200


def test_the_page_loads_nothing_from_elsewhere(preview: Preview) -> None:
    status, page, headers = ask(preview, "GET", "/")
    assert status == 200
    assert "http" not in page
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"script-src 'nonce-{nonce}'" in policy
    assert nonce not in ask(preview, "GET", "/")[1]


def test_no_prompt_is_logged(
    preview: Preview, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    ask(preview, "POST", "/draw", ASKED | {"prompt": "zebra"})
    output = capfd.readouterr()
    assert "zebra" not in caplog.text + output.out + output.err


def browser(preview: Preview, folder: Path, prompt: str, *more: str) -> str:
    """The page's elements after it has drawn, as a headless Chromium sees them."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += ["--virtual-time-budget=20000", *more, "--dump-dom"]
    url = f"{preview.url}#prompt={quote(prompt)}&num=3&seed=7&draw=1"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=90, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_and_shows_text_as_text(preview: Preview, tmp_path: Path) -> None:
    dom = browser(preview, tmp_path, '<img src=x onerror="alert(1)"> effusion')
    assert dom.count("<figure>") == 3
    assert dom.count('src="data:image/png;base64,') == 3
    assert "3 pictures in" in dom
    assert "seed 7" in dom
    assert 'src="x"' not in dom
