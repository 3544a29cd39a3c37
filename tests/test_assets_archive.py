"""``pack`` here, ``unpack`` and ``check`` there; whatever happens to the archive on the way."""

import io
import json
import os
import random
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from arra_med.assets import archive as archives
from arra_med.assets.archive import pack, unpack
from arra_med.assets.record import problems, read_record
from arra_med.errors import RequestError, WorkError
from tests.asset_folders import WEIGHTS, flip, forbid_sockets, run, sha256, write_asset

pytestmark = pytest.mark.usefixtures("no_sockets")

FILES = {"config.json": b"{}", "sub/model.safetensors": WEIGHTS, "empty.txt": b""}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "here"))
    monkeypatch.setenv("ARRA_MED_OFFLINE", "1")


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_asset(tmp_path / "here", "someone/net", FILES)
    write_asset(tmp_path / "here", "other/net", {"weights.bin": WEIGHTS[::-1]})
    return tmp_path / "here"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def member(archive: Path, name: str) -> int:
    """Where a member's bytes begin."""
    with tarfile.open(archive) as tar:
        return tar.getmember(name).offset_data


def test_pack_here_unpack_and_check_there(here: Path, tmp_path: Path, capsys) -> None:
    archive, there = tmp_path / "usb" / "assets.tar", tmp_path / "there"
    assert run("pack", "--all", archive) == 0
    assert sha256(archive.read_bytes()) in capsys.readouterr().out
    command = ["sha256sum", "-c", "assets.tar.sha256"]
    subprocess.run(command, cwd=archive.parent, check=True, capture_output=True)
    assert run("unpack", archive, "--to", there) == 0
    assert capsys.readouterr().out.split() == [
        str(there / "other__net"),
        str(there / "someone__net"),
    ]
    assert contents(there) == contents(here)
    assert run("check", "--folder", there) == 0


def test_the_same_assets_give_the_same_archive(here: Path, tmp_path: Path) -> None:
    folders = [here / "someone__net", here / "other__net"]
    first = pack(folders, tmp_path / "a.tar")
    os.utime(here / "someone__net" / "config.json", (0, 0))
    assert pack(folders[::-1], tmp_path / "b.tar") == first
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames()[0] == "manifest.json"
        assert {(m.mtime, m.uid, m.mode, m.uname) for m in tar} == {(0, 0, 0o644, "")}


def test_pack_by_name_and_its_errors(here: Path, tmp_path: Path, caplog) -> None:
    archive = tmp_path / "a.tar"
    assert run("pack", "someone/net", archive) == 0
    with tarfile.open(archive) as tar:
        assert not any("other" in name for name in tar.getnames())
    for arguments, message in (
        (["rad-dino", archive], "arra-med assets fetch microsoft/rad-dino"),
        ([archive], "say what to pack"),
        (["run.yaml"], "the archive to write is missing: arra-med assets pack run.yaml ARCHIVE.ta"),
        (["--all", "someone/net", archive], "not both"),
        (["someone/net", tmp_path / "a.zip"], "ends in .tar"),
    ):
        caplog.clear()
        assert run("pack", *arguments) == 2
        assert message in caplog.text


def test_a_damaged_asset_is_not_packed(here: Path, tmp_path: Path, caplog) -> None:
    flip(here / "someone__net" / "sub" / "model.safetensors", 77)
    assert run("pack", "--all", tmp_path / "a.tar") == 1
    assert "model.safetensors is not the file that was fetched" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_flipped_byte_of_a_file_is_found_and_the_rest_is_used(
    here: Path, tmp_path: Path, caplog
) -> None:
    archive, there = tmp_path / "a.tar", tmp_path / "there"
    run("pack", "--all", archive)
    position = member(archive, "someone__net/sub/model.safetensors") + 3000
    flip(archive, position)
    assert run("unpack", archive, "--to", there) == 1
    assert "someone/net: damaged: sub/model.safetensors" in caplog.text
    assert [path.name for path in sorted(there.glob("[!.]*__*"))] == ["other__net"]
    flip(archive, position)
    assert run("unpack", archive, "--to", there) == 0
    assert contents(there) == contents(here)


def test_a_flipped_byte_anywhere_never_gives_a_wrong_file(here: Path, tmp_path: Path) -> None:
    pack([here / "someone__net"], archive := tmp_path / "a.tar")
    whole = archive.read_bytes()
    rng = random.Random(0)
    for trial, position in enumerate(rng.sample(range(len(whole)), 30)):
        there = tmp_path / f"there{trial}"
        flip(archive, position)
        try:
            unpack(archive, there)
        except (RequestError, WorkError):
            assert not list(there.glob("[!.]*__*"))
        else:  # the flipped byte was padding, or text that no file depends on
            record = read_record(there / "someone__net")
            assert record.files == read_record(here / "someone__net").files
            assert not problems(there / "someone__net", record)
        archive.write_bytes(whole)


def test_an_archive_that_was_cut_off_resumes(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    archive, there = tmp_path / "a.tar", tmp_path / "there"
    run("pack", "--all", archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: member(archive, "someone__net/sub/model.safetensors") + 5000])
    assert run("unpack", archive, "--to", there) == 1
    assert "someone/net: cut off" in caplog.text
    assert (there / "other__net" / "asset.json").is_file()
    assert not (there / "someone__net").exists()
    kept = there / ".someone__net.partial" / "config.json"
    before = kept.stat().st_mtime_ns
    written = []
    original = tarfile.TarFile.extractfile
    monkeypatch.setattr(
        tarfile.TarFile,
        "extractfile",
        lambda tar, info: written.append(info.name) or original(tar, info),
    )
    archive.write_bytes(whole)
    assert run("unpack", archive, "--to", there) == 0
    assert (there / "someone__net" / "config.json").stat().st_mtime_ns == before
    assert written == ["manifest.json", "someone__net/sub/model.safetensors"]
    assert contents(there) == contents(here)


def test_unpacking_again_does_nothing_and_mends_what_broke(here: Path, tmp_path: Path) -> None:
    archive, there = tmp_path / "a.tar", tmp_path / "there"
    run("pack", "--all", archive)
    run("unpack", archive, "--to", there)
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}
    assert run("unpack", archive, "--to", there) == 0
    assert before == {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}
    flip(there / "other__net" / "weights.bin")
    assert run("unpack", archive, "--to", there) == 0
    assert run("check", "--folder", there) == 0


def test_another_version_of_an_asset_replaces_it_whole(here: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    write_asset(there, "someone/net", {"old.bin": b"old"})
    pack([here / "someone__net"], tmp_path / "a.tar")
    unpack(tmp_path / "a.tar", there)
    assert contents(there / "someone__net") == contents(here / "someone__net")
    assert not list(there.glob(".*old"))


def hostile(path: Path, manifest: object, members: list[tarfile.TarInfo], data: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        text = json.dumps(manifest).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for info in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


@pytest.mark.parametrize(
    "kind", ["traversal", "absolute", "unlisted", "symlink", "listed traversal"]
)
def test_hostile_archives_write_nothing_outside(tmp_path: Path, kind: str) -> None:
    data, there, outside = b"evil", tmp_path / "there", tmp_path / "evil"
    name = {
        "traversal": "someone__net/../../evil",
        "absolute": str(outside),
        "unlisted": "evil__net/evil",
        "symlink": "someone__net/x",
        "listed traversal": "someone__net/../../evil",
    }[kind]
    listed = "../../evil" if kind == "listed traversal" else "x"
    info = tarfile.TarInfo(name)
    if kind == "symlink":
        info.type, info.linkname = tarfile.SYMTYPE, str(outside)
    record = {
        "version": 1,
        "name": "someone/net",
        "source": {},
        "licence": None,
        "versions": {},
        "converted_from": {},
        "files": {listed: {"size": 4, "sha256": sha256(data)}},
    }
    manifest = {"kind": "arra_med assets", "version": 1, "assets": [record]}
    hostile(tmp_path / "a.tar", manifest, [info], data)
    with pytest.raises(RequestError):
        unpack(tmp_path / "a.tar", there)
    assert not outside.exists()
    assert not list(there.glob("[!.]*__*"))


@pytest.mark.parametrize(
    "manifest", [[], {}, {"kind": "arra_med assets", "version": 9, "assets": []}]
)
def test_other_archives_are_refused(tmp_path: Path, manifest: object) -> None:
    hostile(tmp_path / "a.tar", manifest, [], b"")
    with pytest.raises(RequestError, match="not one of ours"):
        unpack(tmp_path / "a.tar", tmp_path / "there")


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(RequestError, match="is not an archive of assets"):
        unpack(tmp_path / "a.tar", tmp_path / "there")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "a.tar", "a.tar")
    with pytest.raises(RequestError, match=r"does not begin with manifest\.json"):
        unpack(tmp_path / "b.tar", tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="no archive"):
        unpack(tmp_path / "c.tar", tmp_path / "there")


def test_no_room_is_said_before_anything_is_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack([here / "someone__net"], tmp_path / "a.tar")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(RequestError, match="only 1 B are free"):
        unpack(tmp_path / "a.tar", tmp_path / "there")
    with pytest.raises(RequestError, match="only 1 B are free"):
        pack([here / "someone__net"], tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_large_files_pass_through_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read is bounded: a file is many pieces, and none is larger than one."""
    monkeypatch.setattr(archives, "_CHUNK", 1 << 16)
    large = b"".join(bytes([n]) * 65_537 for n in range(64))
    folder = write_asset(tmp_path / "here", "someone/net", {"model.bin": large})
    sizes: list[int] = []
    original = tarfile.ExFileObject.read

    def read(file: tarfile.ExFileObject, size: int | None = -1) -> bytes:
        data = original(file, size)
        sizes.append(len(data))
        return data

    pack([folder], tmp_path / "a.tar")
    monkeypatch.setattr(tarfile.ExFileObject, "read", read)
    unpack(tmp_path / "a.tar", tmp_path / "there")
    assert (tmp_path / "there" / "someone__net" / "model.bin").read_bytes() == large
    assert len(sizes) > 64
    assert max(sizes) <= 1 << 16
