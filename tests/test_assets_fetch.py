"""``fetch``: from a fake hub, from a web server on this machine, from a folder."""

import http.server
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from arra_med.assets import asset_path, catalogue
from arra_med.assets.catalogue import Asset, KnownFile
from arra_med.assets.download import download
from arra_med.assets.fetch import fetch
from arra_med.assets.hub import choose
from arra_med.assets.record import read_record
from arra_med.errors import RequestError, WorkError
from tests.asset_folders import WEIGHTS, FakeHub, flip, forbid_sockets, run, sha256

DOCS = Path(__file__).parents[1] / "docs" / "air-gapped.md"
OLD, NEW = "1" * 40, "2" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle" * 1000,
    "modeling_net.py": b"import os",
    "onnx/model.json": b"{}",
    "README.md": b"words",
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_OFFLINE", "ARRA_MED_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "assets"
    root.mkdir()
    monkeypatch.setenv("ARRA_MED_ASSETS", str(root))
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    forbid_sockets(monkeypatch)
    hub = FakeHub(tmp_path / "hub", monkeypatch)
    hub.add("someone/net", OLD, FILES)
    return hub


# The hub


def test_code_is_never_taken_and_pickles_only_for_want_of_safetensors() -> None:
    patterns = catalogue.DEFAULT_PATTERNS
    assert choose(list(FILES), patterns) == ["config.json", "model.safetensors"]
    names = ["config.json", "pytorch_model.bin", "modeling.py", "tf_model.h5"]
    assert choose(names, patterns) == ["config.json", "pytorch_model.bin"]
    assert choose(["onnx/model.json"], ("onnx/*.json",)) == ["onnx/model.json"]
    assert choose(["x.py"], ("*.py",)) == []


def test_of_a_diffusers_pipeline_every_model_is_taken_once() -> None:
    wanted = [
        "model_index.json",
        "safety_checker/config.json",
        "safety_checker/pytorch_model.bin",
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "unet/config.json",
        "unet/model-00001-of-00002.safetensors",
    ]
    left = [
        "README.md", "sd.safetensors", "v1.ckpt", "unet/model-00001-of-00002.fp16.safetensors",
        "unet/model.bin", "unet/own.py", "safety_checker/pytorch_model.fp16.bin",
    ]  # fmt: skip
    assert choose(left + wanted, catalogue.DEFAULT_PATTERNS) == wanted


def test_one_exact_commit_with_every_hash(root: Path, hub: FakeHub, capsys) -> None:
    assert run("fetch", "someone/net") == 0
    folder = asset_path("someone/net")
    assert capsys.readouterr().out.strip() == str(folder) == str(root / "someone__net")
    assert hub.calls == [("someone/net", OLD, ["config.json", "model.safetensors"])]
    assert sorted(p.name for p in folder.iterdir()) == [
        "asset.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    record = read_record(folder)
    assert record.source == {"hub": "someone/net", "revision": OLD}
    assert record.files["model.safetensors"].sha256 == sha256(WEIGHTS)
    assert record.size == len(WEIGHTS) + 2
    assert set(record.versions) == {"arra_med", "huggingface_hub"}
    assert not list(root.glob(".*"))
    assert run("check") == 0


def test_what_is_there_and_whole_is_left_and_what_is_damaged_comes_again(
    root: Path, hub: FakeHub
) -> None:
    folder = fetch(Asset(name="someone/net"), root)
    fetch(Asset(name="someone/net"), root)
    assert len(hub.calls) == 1
    flip(folder / "model.safetensors")
    fetch(Asset(name="someone/net"), root)
    assert len(hub.calls) == 2
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_another_revision_replaces_the_asset_whole(root: Path, hub: FakeHub) -> None:
    hub.add("someone/net", NEW, {"config.json": b"{1}", "pytorch_model.bin": b"new"})
    assert run("fetch", f"someone/net@{OLD}") == 0
    assert run("fetch", f"someone/net@{NEW}") == 0
    folder = root / "someone__net"
    assert sorted(p.name for p in folder.iterdir()) == [
        "asset.json", "config.json", "pytorch_model.bin",
    ]  # fmt: skip
    assert read_record(folder).source["revision"] == NEW


def test_an_interrupted_fetch_leaves_no_asset_and_is_taken_up_again(
    root: Path, hub: FakeHub, caplog
) -> None:
    hub.lost_after_one_file = True
    assert run("fetch", "someone/net") == 1
    assert "it continues where it stopped" in caplog.text
    assert asset_path("someone/net") is None
    assert (root / ".someone__net.partial" / "config.json").is_file()
    hub.lost_after_one_file = False
    assert run("fetch", "someone/net") == 0
    assert not list(root.glob(".*"))


def test_a_file_that_is_not_the_catalogue_s_is_not_kept(root: Path, hub: FakeHub) -> None:
    wrong = KnownFile(name="model.safetensors", sha256="0" * 64)
    with pytest.raises(WorkError, match=r"model\.safetensors has 10240 bytes and SHA-256"):
        fetch(Asset(name="someone/net", revision=OLD, files=(wrong,)), root)
    assert asset_path("someone/net") is None
    gone = KnownFile(name="vocab.txt")
    with pytest.raises(WorkError, match=r"vocab\.txt did not arrive"):
        fetch(Asset(name="someone/net", revision=OLD, files=(gone,)), root)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("GatedRepoError", 2, "accept them on https://huggingface.co/someone/net"),
        ("RepositoryNotFoundError", 2, "no model repository someone/net"),
        ("RevisionNotFoundError", 2, "has no revision"),
        ("HTTPError", 1, "cannot ask the hub"),
    ],
)
def test_what_the_hub_refuses(
    root: Path, hub: FakeHub, caplog, error: str, code: int, message: str
) -> None:
    kind = getattr(huggingface_hub.errors, error)
    failure = kind.__new__(kind)
    Exception.__init__(failure, "no")
    hub.failures = [failure]
    assert run("fetch", "someone/net") == code
    assert message in caplog.text
    assert not list(root.glob("*net*"))


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "ARRA_MED_OFFLINE"])
def test_offline_fetch_is_refused_and_says_what_to_do(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    assert run("fetch", "someone/net") == 2
    assert f"{variable} forbids the network" in caplog.text
    assert "arra-med assets unpack" in caplog.text
    assert not hub.calls


def test_one_failure_does_not_stop_the_others(root: Path, hub: FakeHub, caplog) -> None:
    assert run("fetch", "meta/chameleon-tokenizer", "someone/net") == 1
    assert asset_path("someone/net") is not None
    assert "1 of 2 assets could not be fetched" in caplog.text
    assert "--from <folder>/tokenizer" in caplog.text


# A folder of files downloaded by other means


def test_from_a_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    forbid_sockets(monkeypatch)
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")  # it needs no network
    given = tmp_path / "data" / "tokenizer"
    given.mkdir(parents=True)
    assert run("fetch", "meta/chameleon-tokenizer", "--from", given) == 2
    assert "lacks vqgan.ckpt, vqgan.yaml, text_tokenizer.json" in caplog.text
    for name in ("vqgan.ckpt", "vqgan.yaml", "text_tokenizer.json", "checklist.chk"):
        (given / name).write_text(name)
    assert run("fetch", "meta/chameleon-tokenizer", "--from", given) == 0
    folder = root / "meta__chameleon-tokenizer"
    assert set(read_record(folder).files) == {"vqgan.ckpt", "vqgan.yaml", "text_tokenizer.json"}
    assert run("check") == 0
    assert run("fetch", "rad-dino", "someone/net", "--from", given) == 2
    assert run("fetch", "rad-dino", "--from", tmp_path / "nowhere") == 2


# Plain https


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content``; may drop the connection after some bytes."""

    content = WEIGHTS
    drop_after: ClassVar[list[int]] = []
    etag = '"one"'
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        if self.path == "/gone":
            self.send_error(404)
            return
        start = 0
        same = self.headers.get("If-Range") in (None, self.etag)
        if asked and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(self.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(self.content)}")
                self.end_headers()
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.send_header("ETag", self.etag)
        self.end_headers()
        stop = self.drop_after.pop(0) if self.drop_after else len(self.content)
        self.wfile.write(self.content[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Server.content, Server.drop_after, Server.etag, Server.asked = WEIGHTS, [], '"one"', []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_dropped_download_continues_where_it_stopped(url: str, tmp_path: Path) -> None:
    Server.drop_after = [4000, 7000]
    download(f"{url}/w.pt", tmp_path / "w.pt", sha256=sha256(WEIGHTS), size=len(WEIGHTS))
    assert (tmp_path / "w.pt").read_bytes() == WEIGHTS
    assert Server.asked == [None, "bytes=4000-", "bytes=7000-"]
    assert [path.name for path in tmp_path.glob("w*")] == ["w.pt"]


def test_a_download_that_fails_resumes_in_the_next_run(url: str, tmp_path: Path) -> None:
    Server.drop_after = [1000, 2000, 3000]
    with pytest.raises(WorkError, match="it continues where it stopped"):
        download(f"{url}/w.pt", tmp_path / "w.pt")
    assert not (tmp_path / "w.pt").exists()
    download(f"{url}/w.pt", tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == WEIGHTS
    assert Server.asked[-1] == "bytes=3000-"


def test_halves_of_two_files_are_never_joined(url: str, tmp_path: Path) -> None:
    Server.drop_after = [1000, 1000, 1000]
    with pytest.raises(WorkError):
        download(f"{url}/w.pt", tmp_path / "w.pt")
    Server.content, Server.etag = WEIGHTS[::-1], '"two"'
    download(f"{url}/w.pt", tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == WEIGHTS[::-1]


def test_a_complete_part_needs_only_its_name(url: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(WEIGHTS)
    (tmp_path / "w.pt.part.etag").write_text('"one"')
    download(f"{url}/w.pt", tmp_path / "w.pt", sha256=sha256(WEIGHTS))
    assert (tmp_path / "w.pt").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("expected", "message"),
    [({"sha256": "0" * 64}, "expected 0000"), ({"size": 3}, "has 10240 bytes, expected 3")],
)
def test_a_wrong_file_is_not_kept(url: str, tmp_path: Path, expected: dict, message: str) -> None:
    with pytest.raises(WorkError, match=message):
        download(f"{url}/w.pt", tmp_path / "w.pt", **expected)
    assert not list(tmp_path.glob("w*"))


def test_addresses_that_are_not_https_or_not_there(url: str, tmp_path: Path) -> None:
    for wrong in ("http://example.org/w.pt", "file:///etc/passwd", "ftp://127.0.0.1/w"):
        with pytest.raises(RequestError, match="not an https address"):
            download(wrong, tmp_path / "w.pt")
    with pytest.raises(WorkError, match="404"):
        download(f"{url}/gone", tmp_path / "w.pt")
    assert len(Server.asked) == 1  # a refusal is not asked again


def test_a_url_asset(url: str, root: Path) -> None:
    known = KnownFile(name="w.pth", url=f"{url}/w.pth", sha256=sha256(WEIGHTS))
    asset = Asset(name="some/inception", source="url", files=(known,), licence="Apache-2.0")
    folder = fetch(asset, root)
    record = read_record(folder)
    assert record.source == {"urls": {"w.pth": f"{url}/w.pth"}}
    assert record.licence == "Apache-2.0"
    assert list(record.files) == ["w.pth"]
    fetch(asset, root)
    assert len(Server.asked) == 1


# The documentation


def test_every_command_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A hospital engineer's page, from top to bottom, on two folders for the two machines."""
    hub = FakeHub(tmp_path / "hub", monkeypatch)
    for name in ("wanglab/medsam-vit-base", "flaviagiammarino/medsam-vit-base"):
        hub.add(name, OLD, FILES)
    cwd, form = tmp_path / "cwd", tmp_path / "cwd" / "downloads" / "chameleon" / "tokenizer"
    form.mkdir(parents=True)
    (tmp_path / "usb").mkdir()
    for name in ("vqgan.ckpt", "vqgan.yaml", "text_tokenizer.json"):
        (form / name).write_text(name)
    config = "features: {teacher: {name: medsam}}\nalignment: {enabled: false}\n"
    for folder in (cwd, tmp_path / "usb"):
        (folder / "run.yaml").write_text(f"paths: {{output: {tmp_path}/work}}\n{config}")
    monkeypatch.chdir(cwd)
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    for line in commands:
        line = line.replace("/media/usb", str(tmp_path / "usb"))
        line = re.sub(r"/(data|scratch)/", rf"{tmp_path}/\1/", line)
        words = shlex.split(line)
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
        elif words[0] == "cd":
            monkeypatch.chdir(words[1])
        elif words[:2] == ["arra-med", "assets"]:
            assert run(*words[2:]) == 0, line
        else:
            subprocess.run(line, shell=True, check=True, capture_output=True)
    assert len(commands) > 15
    assert "ok       wanglab/medsam-vit-base" in capsys.readouterr().out
    unpacked = tmp_path / "scratch" / "arra_med_assets" / "wanglab__medsam-vit-base"
    assert asset_path("wanglab/medsam-vit-base") == unpacked
