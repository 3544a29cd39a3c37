"""The store: atomic, resumable, manifest last."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from arra_med.errors import RequestError, WorkError
from arra_med.store import (
    ByteStream,
    Cache,
    PartWriter,
    PreparedFolder,
    Shard,
    TableStream,
    read_manifest,
    vector_table,
    verify,
    write_atomic,
)
from tests.conftest import write_prepared


def write(folder: Path, *, parts: int = 3, stop_after: int | None = None, **config: int) -> None:
    with PartWriter(folder, kind="things", config={"n": parts, **config}) as writer:
        for index in writer.missing(parts):
            if index == stop_after:
                raise KeyboardInterrupt
            writer.write_part(index, {f"part-{index}.bin": bytes([index]) * 9}, {"items": 2})
        writer.finish(parts, {"whole.json": b"{}"}, summary={"note": "x"})


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_finished_folder_has_a_manifest_and_nothing_else_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert set(contents(tmp_path / "a")) == {
        "manifest.json", "part-0.bin", "part-1.bin", "part-2.bin", "whole.json",
    }  # fmt: skip
    manifest = read_manifest(tmp_path / "a", "things")
    assert manifest["counts"] == {"items": 6}
    assert manifest["note"] == "x"
    verify(tmp_path / "a", "things")


def test_an_interrupted_folder_is_not_finished_and_resumes_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    write(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "stopped", stop_after=1)
    with pytest.raises(FileNotFoundError, match="not finished"):
        read_manifest(tmp_path / "stopped", "things")
    write(tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path / "a", size=1)
    with pytest.raises(RequestError, match=r"finished work.*size \(1 there, 2 asked for\)"):
        write(tmp_path / "a", size=2)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b", stop_after=1, size=1)
    with pytest.raises(RequestError, match="unfinished work"):
        write(tmp_path / "b", size=2)


def test_a_plan_without_any_finished_part_binds_nobody(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", stop_after=0, size=1)
    write(tmp_path / "a", size=2)
    assert read_manifest(tmp_path / "a", "things")["config"]["size"] == 2


def test_what_forgotten_parts_wrote_goes_away_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with PartWriter(folder, kind="things", config={"n": 9}) as writer:
        for index in writer.missing(9):
            writer.write_part(index, {f"part-{index}.bin": b"9"}, {})
        (folder / "thesis.doc").write_text("years of work")
        writer.forget()
    assert {path.name for path in folder.iterdir()} == {".partial", "thesis.doc"}
    write(folder)
    assert set(read_manifest(folder, "things")["files"]) == {
        "part-0.bin", "part-1.bin", "part-2.bin", "whole.json",
    }  # fmt: skip
    assert (folder / "thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize("stopped_before", ["part-0.bin", "done-00000.json"])
def test_a_part_that_was_begun_leaves_nothing_to_another_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_before: str
) -> None:
    def write_but(path: Path, content: bytes) -> None:
        if path.name == stopped_before:
            path.with_name(f".{path.name}.tmp").write_bytes(content)
            raise KeyboardInterrupt
        write_atomic(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("arra_med.store.parts.write_atomic", write_but)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "a", parts=1)
    assert any("part-0" in path.name for path in (tmp_path / "a").iterdir())
    with PartWriter(tmp_path / "a", kind="things", config={"n": 0}) as writer:
        writer.write_part(0, {"other.bin": b"1"}, {})
        writer.finish(1)
    assert verify(tmp_path / "a", "things") == 1


def test_running_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a")
    before = contents(tmp_path / "a")
    write(tmp_path / "a")
    assert contents(tmp_path / "a") == before


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(RequestError, match="not empty and not ours"):
        write(tmp_path)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with (
        PartWriter(tmp_path / "a", kind="things", config={}),
        pytest.raises(RequestError, match=r"another process.*: wait for it, or choose another"),
        PartWriter(tmp_path / "a", kind="things", config={}),
    ):
        pass


def write_shard(folder: Path, shard: Shard, **config: int) -> PartWriter:
    with PartWriter(folder, kind="things", config={"n": 3, **config}, shard=shard) as writer:
        for index in writer.missing(3):
            writer.write_part(index, {f"part-{index}.bin": bytes([index]) * 9}, {"items": 2})
    return writer


def test_shards_share_a_folder_and_a_run_without_one_joins_them(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    first = PartWriter(tmp_path / "a", kind="things", config={"n": 3}, shard=Shard(0, 2))
    with first:
        assert first.missing(3) == [0, 2]
        write_shard(tmp_path / "a", Shard(1, 2))
        with pytest.raises(RequestError, match="another process"):
            write(tmp_path / "a")
        with pytest.raises(RequestError, match=r"shard 0/2 .*: wait for it, or take another"):
            write_shard(tmp_path / "a", Shard(0, 2))
        with pytest.raises(RequestError, match="another count"):
            write_shard(tmp_path / "a", Shard(1, 3))
        with pytest.raises(RequestError, match="another configuration"):
            write_shard(tmp_path / "a", Shard(1, 2), size=1)
    assert write_shard(tmp_path / "a", Shard(2, 3)).missing(3) == []  # alone: any count will do
    write(tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("generated", "paths.generated"),
        ("evaluation", "paths.evaluation"),
        ("tokens", "output folder"),
    ],
)
def test_who_must_choose_another_folder_is_told_by_which_setting(
    tmp_path: Path, kind: str, other: str
) -> None:
    with PartWriter(tmp_path / "a", kind=kind, config={"n": 3}) as writer:
        writer.finish(0)
    with (
        pytest.raises(RequestError, match=f"differs in n.*Choose another {other}, or delete"),
        PartWriter(tmp_path / "a", kind=kind, config={"n": 4}),
    ):
        pass


def test_a_shard_beside_a_whole_run_is_refused(tmp_path: Path) -> None:
    with (
        PartWriter(tmp_path / "a", kind="things", config={"n": 3}),
        pytest.raises(RequestError, match="not as a shard"),
    ):
        write_shard(tmp_path / "a", Shard(0, 2))


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/0", "1/2/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected i/n"):
        Shard.parse(text)
    assert Shard.parse("3/4") == Shard(3, 4)


def test_a_failed_check_leaves_the_folder_unfinished(tmp_path: Path) -> None:
    def check() -> None:
        assert (tmp_path / "a" / "whole.json").is_file()
        raise WorkError("a name stands in it")

    with PartWriter(tmp_path / "a", kind="things", config={}) as writer:
        writer.write_part(0, {}, {})
        with pytest.raises(WorkError, match="a name stands"):
            writer.finish(1, {"whole.json": b"{}"}, check=check)
        assert not writer.finished
        writer.finish(1, {"whole.json": b"{}"})
        assert writer.finished


def test_streams_are_written_as_one_file(tmp_path: Path) -> None:
    table = pa.table({"key": ["a", "b"]})
    write_atomic(tmp_path / "t.parquet", TableStream(table.schema, iter([table, table])))
    assert pd.read_parquet(tmp_path / "t.parquet")["key"].tolist() == ["a", "b", "a", "b"]
    write_atomic(tmp_path / "t.jsonl", ByteStream(iter([b"1\n", b"2\n"])))
    assert (tmp_path / "t.jsonl").read_bytes() == b"1\n2\n"


def test_a_missing_part_cannot_be_finished(tmp_path: Path) -> None:
    with PartWriter(tmp_path / "a", kind="things", config={}) as writer:
        writer.write_part(0, {}, {})
        with pytest.raises(WorkError, match=r"parts \[1\] are missing"):
            writer.finish(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "tokens"}, "holds 'tokens'"), ({"schema_version": 0}, "schema version 0")],
)
def test_other_kinds_and_schemas_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RequestError, match=message):
        read_manifest(tmp_path / "a", "things")


def test_verify_names_changed_and_missing_files(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "a" / "part-0.bin").write_bytes(b"x")
    (tmp_path / "a" / "part-1.bin").unlink()
    (tmp_path / "a" / "part-9.bin").write_bytes(b"x")
    with pytest.raises(
        WorkError, match=r"1 missing \(first part-1.bin\), 1 changed \(first part-0.bin\), 1 not"
    ):
        verify(tmp_path / "a", "things")


def test_write_atomic_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x" / "a.bin", b"1")
    write_atomic(tmp_path / "x" / "a.bin", b"2")
    assert contents(tmp_path) == {"x/a.bin": b"2"}


def test_a_prepared_folder_opens_in_pandas_and_hugging_face(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    frame = pd.read_parquet(prepared.folder / "samples.parquet")
    assert len(frame) == 40
    assert frame["labels"][0]["Pleural Effusion"] == 1
    opened = datasets.load_dataset(
        "parquet",
        data_files=str(prepared.folder / "images" / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert opened[0]["image"].size == (32, 32)
    assert opened["key"][:] == prepared.keys


def test_prepared_pictures_that_are_not_there_name_the_verb_that_writes_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no prepared pictures at .*'arra-med ingest'"):
        PreparedFolder(tmp_path / "nowhere")


def test_an_empty_split_says_what_there_is(prepared: PreparedFolder) -> None:
    with pytest.raises(RequestError, match=r"split 'holdout' is empty.*'train': 24"):
        prepared.rows("holdout")


def test_a_key_in_the_table_twice_is_refused(prepared: PreparedFolder) -> None:
    table = prepared.samples
    doubled = pa.concat_tables([table, table.slice(0, 1)])
    write_atomic(prepared.folder / "samples.parquet", doubled)
    with pytest.raises(RequestError, match=r"'p000/s000/i000' is in samples\.parquet twice"):
        PreparedFolder(prepared.folder)


def test_a_lost_part_is_named_before_anything_starts(prepared: PreparedFolder) -> None:
    (prepared.folder / "images" / "part-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"lost 1 of its files.*part-00001"):
        PreparedFolder(prepared.folder)


def make_cache(folder: Path, prepared: PreparedFolder, parts: list[list[str]]) -> Cache:
    config = {"prepared": prepared.content_hash}
    with PartWriter(folder, kind="tokens", config=config) as writer:
        for index, keys in enumerate(parts):
            vectors = np.arange(len(keys) * 3, dtype=np.uint16).reshape(-1, 3) + 100 * index
            table = vector_table(keys, vectors, "codes")
            writer.write_part(index, {f"part-{index}.arrow": table}, {"samples": len(keys)})
        writer.finish(len(parts))
    return Cache(folder, kind="tokens", column="codes")


def test_a_cache_is_read_by_key_from_mapped_memory(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "c", prepared, [["a", "b"], ["c"]])
    assert cache["b"].tolist() == [3, 4, 5]
    assert cache["c"].tolist() == [100, 101, 102]
    assert (len(cache), cache.width, "a" in cache, "z" in cache) == (3, 3, True, False)
    assert not cache["a"].flags.writeable
    with pytest.raises(RequestError, match=r"no tokens for 1 samples, first \['z'\].*tokenize"):
        cache.require(prepared, ["a", "z"])


def test_a_cache_with_a_key_twice_or_of_other_pictures_is_refused(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="key 'a' is there twice"):
        make_cache(tmp_path / "c", prepared, [["a"], ["a"]])
    cache = make_cache(tmp_path / "d", prepared, [["a"]])
    other = write_prepared(tmp_path / "other", num=20)
    with pytest.raises(RequestError, match="made from other pictures"):
        cache.require(other, ["a"])


def test_a_cache_that_lost_a_part_says_which(prepared: PreparedFolder, tmp_path: Path) -> None:
    make_cache(tmp_path / "c", prepared, [["a"], ["b"]])
    (tmp_path / "c" / "part-1.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-1.arrow is listed"):
        Cache(tmp_path / "c", kind="tokens", column="codes")


_SLOW_WRITER = """
import sys, time
from pathlib import Path
from arra_med.store import PartWriter
with PartWriter(Path(sys.argv[1]), kind="things", config={}) as writer:
    for index in writer.missing(20):
        writer.write_part(index, {f"part-{index}.bin": bytes([index]) * 100_000}, {"n": 1})
        time.sleep(0.01)
    writer.finish(20)
"""


def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SLOW_WRITER]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    rng = np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        time.sleep(0.25 + 0.2 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
