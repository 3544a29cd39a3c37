"""A planted identifier is found wherever it stands in a prepared folder; a clean one passes."""

import io
import json
import logging
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from arra_med.datasets.base import Identifier
from arra_med.datasets.privacy import Leak, Watch, findings, leak_message, scan_folder
from arra_med.datasets.privacy.folder_scan import foreign_chunk
from arra_med.images import encode_png
from arra_med.schema import images_schema, samples_schema
from arra_med.store import PreparedFolder
from tests.conftest import write_prepared


@pytest.fixture
def watch() -> Watch:
    watch = Watch(b"salt")
    watch.add([Identifier("PatientName", "DOE^JANE"), Identifier("PatientID", "4711234")])
    return watch


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def change(path: Path, column: str, rows: dict[int, object]) -> None:
    """Write other values into a column of a Parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    for row, value in rows.items():
        values[row] = value
    index = table.schema.get_field_index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(index, field, pa.array(values, field.type)), path)


def test_a_clean_folder_passes(prepared: PreparedFolder, watch: Watch) -> None:
    assert scan_folder(prepared.folder, watch) == ()


def test_text_columns(prepared: PreparedFolder, watch: Watch) -> None:
    path = prepared.folder / "samples.parquet"
    change(path, "prompt", {1: "Jane Doe: no effusion", 5: "DOE, JANE", 7: "MRN 4711234"})
    change(path, "source", {0: "a/doe_jane.png"})
    change(path, "key", {3: "p4711234/s1/i1"})
    assert set(scan_folder(prepared.folder, watch)) == {
        Leak("PatientName", "samples.parquet column prompt, 2 rows"),
        Leak("PatientID", "samples.parquet column prompt, 1 row"),
        Leak("PatientName", "samples.parquet column source, 1 row"),
        Leak("PatientID", "samples.parquet column key, 1 row"),
    }


@pytest.mark.parametrize("text", ["Software", "Author", "Comment"])
def test_png_text_chunk_in_an_image_part(prepared: PreparedFolder, watch: Watch, text: str) -> None:
    path = sorted((prepared.folder / "images").glob("*.parquet"))[0]
    change(path, "image", {2: {"bytes": png(**{text: "anything"}), "path": None}})
    assert scan_folder(prepared.folder, watch) == (
        Leak("image metadata", "images/*.parquet column image.bytes (tEXt), 1 picture"),
    )


def test_image_paths_and_parts_are_counted_together(prepared: PreparedFolder, watch: Watch) -> None:
    for path in sorted((prepared.folder / "images").glob("*.parquet"))[:2]:
        change(path, "image", {0: {"bytes": png(), "path": "doe_jane.dcm"}})
    assert scan_folder(prepared.folder, watch) == (
        Leak("PatientName", "images/*.parquet column image.path, 2 rows"),
    )


def test_texts_and_structured_files(prepared: PreparedFolder, watch: Watch) -> None:
    folder = prepared.folder
    line = {"item": "x", "source": "4711234.dcm", "reason": "r", "detail": "J\u00e1ne Doe"}
    (folder / "excluded.jsonl").write_text(json.dumps(line) + "\n{}\nnot json, Jane Doe\n")
    (folder / "README.md").write_text("# Card\n\nthanks to Jane Doe\n")
    (folder / "card.json").write_text(json.dumps({"by": ["Doe, Jane"], "found": 4711234}))
    (folder / "config.yaml").write_text("root: /data/doe_jane\ncount: 4711234\n")
    (folder / "broken.json").write_text("{Jane Doe")
    (folder / "empty.yaml").write_text("")
    assert set(scan_folder(folder, watch)) == {
        Leak("PatientName", "excluded.jsonl, 2 lines"),
        Leak("PatientID", "excluded.jsonl, 1 line"),
        Leak("PatientName", "README.md, 1 place"),
        Leak("PatientName", "card.json, 1 place"),
        Leak("PatientName", "config.yaml, 1 place"),
        Leak("PatientName", "broken.json, 1 place"),
    }


def listed(folder: Path, watch: Watch) -> list[tuple[str, str, str, str, int | None]]:
    """Key, field, tag, file and row of everything that is found."""
    found = findings.in_folder(folder, scan_folder(folder, watch), watch)
    return [(one.key, one.field, one.tag, one.file, one.row) for one in found]


def test_findings_name_the_row_and_the_field_and_never_the_value(
    prepared: PreparedFolder, watch: Watch
) -> None:
    folder, samples = prepared.folder, prepared.folder / "samples.parquet"
    keys = prepared.keys
    change(samples, "prompt", {1: "Jane Doe: no effusion", 5: "DOE, JANE", 7: "MRN 4711234"})
    change(samples, "key", {7: "p4711234/s1/i1"})
    parts = sorted((folder / "images").glob("*.parquet"))
    first = pq.read_metadata(parts[0]).num_rows
    change(parts[1], "image", {0: {"bytes": png(Author="x"), "path": "doe_jane.dcm"}})
    lines = [
        {"item": "films.csv#4", "source": "x.dcm", "reason": "r", "detail": "J\u00e1ne Doe"},
        {"item": "jane_doe", "source": "4711234.dcm", "reason": "r", "detail": ""},
    ]
    (folder / "excluded.jsonl").write_text("{}\n".join(json.dumps(line) + "\n" for line in lines))
    (folder / "README.md").write_text("# Card\n\nthanks to Jane Doe\n")
    (folder / "card.json").write_text(json.dumps({"by": ["Doe, Jane"]}))
    assert set(listed(folder, watch)) == {
        (keys[1], "prompt", "PatientName", "samples.parquet", 2),
        (keys[5], "prompt", "PatientName", "samples.parquet", 6),
        ("", "prompt", "PatientID", "samples.parquet", 8),
        ("", "key", "PatientID", "samples.parquet", 8),
        (keys[first], "image.path", "PatientName", "images/*.parquet", first + 1),
        (keys[first], "image.bytes", "image metadata", "images/*.parquet", first + 1),
        ("films.csv#4", "detail", "PatientName", "excluded.jsonl", 1),
        ("", "item", "PatientName", "excluded.jsonl", 3),
        ("", "source", "PatientID", "excluded.jsonl", 3),
        ("", "", "PatientName", "README.md", 3),
        ("", "", "PatientName", "card.json", None),
    }
    leaks = scan_folder(folder, watch)
    written = findings.as_csv(findings.in_folder(folder, leaks, watch)).decode()
    assert written.startswith("key,field,tag,file,row,source_sha256\n")
    for value in ("4711234", "doe", "jane"):
        assert value not in written.lower()
    hashes = pq.read_table(samples)["source_sha256"].to_pylist()
    assert f"{keys[1]},prompt,PatientName,samples.parquet,2,{hashes[1]}\n" in written


def test_rows_of_lists_are_those_of_the_table(prepared: PreparedFolder, watch: Watch) -> None:
    lists = pa.table({"names": [["x", "Jane Doe"], [], None, ["y"], ["Doe, Jane"]]})
    pq.write_table(lists, prepared.folder / "more.parquet", row_group_size=2)
    assert listed(prepared.folder, watch) == [
        ("", "names", "PatientName", "more.parquet", 1),
        ("", "names", "PatientName", "more.parquet", 5),
    ]


def test_parquet_metadata_and_column_names(prepared: PreparedFolder, watch: Watch) -> None:
    path = prepared.folder / "samples.parquet"
    table = pq.read_table(path)
    table = table.append_column("doe_jane", pa.array([None] * table.num_rows, pa.string()))
    pq.write_table(table.replace_schema_metadata({"author": "Jane Doe"}), path)
    leaks = scan_folder(prepared.folder, watch)
    assert leaks[-1].tag == "PatientName"
    assert leaks[-1].where.startswith("samples.parquet metadata")


def test_file_names_and_loose_pictures(prepared: PreparedFolder, watch: Watch) -> None:
    (prepared.folder / "doe_jane.md").write_text("nothing, MRN 4711234")
    (prepared.folder / "sheet.png").write_bytes(png(Author="x"))
    (prepared.folder / "fine.png").write_bytes(png())
    leaks = scan_folder(prepared.folder, watch)
    assert set(leaks) == {
        Leak("PatientName", "the name of a file, 1 place"),
        Leak("PatientID", "a file (.md), 1 place"),
        Leak("image metadata", "sheet.png (tEXt), 1 place"),
    }
    message = leak_message(leaks, Path("identifiers.csv"))
    assert "doe" not in message.lower()
    assert "ingest again" in message


def test_scratch_is_not_searched_and_other_files_are_named(
    prepared: PreparedFolder, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    (prepared.folder / ".partial").mkdir(exist_ok=True)
    (prepared.folder / ".partial" / "x.md").write_text("Jane Doe")
    (prepared.folder / "x.bin").write_bytes(b"Jane Doe")
    with caplog.at_level(logging.WARNING):
        assert scan_folder(prepared.folder, watch) == ()
    assert "x.bin" in caplog.text


def test_numbers_that_chance_explains_are_no_leaks(tmp_path: Path) -> None:
    """A tenth of all five-digit numbers are patients': a tenth of any numbers hit one."""
    rng = np.random.default_rng(0)
    patients = rng.choice(np.arange(10_000, 100_000), 9_000, replace=False)
    watch = Watch(b"salt")
    watch.add([Identifier("PatientID", str(number)) for number in patients])
    assert watch.density(5) == pytest.approx(0.1)
    folder = write_prepared(tmp_path / "prepared").folder
    path = folder / "samples.parquet"
    numbers = rng.integers(10_000, 100_000, 40)
    change(path, "source", {row: f"{number}.png" for row, number in enumerate(numbers)})
    assert scan_folder(folder, watch) == ()
    change(path, "source", {row: f"{patients[row]}.png" for row in range(40)})
    assert scan_folder(folder, watch) == (
        Leak("PatientID", "samples.parquet column source, 40 rows"),
    )


@pytest.mark.parametrize(
    ("data", "chunk"),
    [
        (encode_png(np.zeros((4, 4, 3), np.uint8)), None),
        (encode_png(np.zeros((4, 4, 1), np.uint8)), None),
        (png(), None),
        (png(Software="x"), "tEXt"),
        (png() + b"Jane Doe", "data after the end mark"),
        (png()[:-4], "data after the end mark"),
        (png().replace(b"IDAT", b"jaNE"), "an unknown chunk"),
        (b"\xff\xd8\xff", "not a PNG"),
        (b"", "not a PNG"),
    ],
)
def test_foreign_chunks(data: bytes, chunk: str | None) -> None:
    assert foreign_chunk(data) == chunk


def test_speed(tmp_path: Path) -> None:
    """5,000 rows against 10,000 patients in well under two seconds (10^5 rows: some seconds)."""
    watch = Watch(b"salt")
    watch.add(
        [Identifier("PatientName", f"NAME{chr(97 + n % 26)}x^GIVEN") for n in range(26)]
        + [Identifier("PatientID", str(10_000_000 + 37 * n)) for n in range(10_000)]
    )
    text = "PA view chest x-ray image, no focal consolidation, effusion or pneumothorax. " * 3
    rows = [
        {
            "key": f"p{n}/s{n}/02aa804e-bde0afdd-112c0b34-7bc16630-{n:08x}", "prompt": text,
            "patient_id": f"{n}", "study_id": f"{n}", "split": "train", "view": "PA",
            "prompt_source": "findings", "labels": {"x": None}, "modality": "cxr",
            "source": f"p{n}.dcm", "source_sha256": f"{n:064x}", "width": 8, "height": 8,
        }
        for n in range(5_000)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, samples_schema(["x"])), tmp_path / "samples.parquet")
    (tmp_path / "images").mkdir()
    pictures = [{"key": "k", "image": {"bytes": png(), "path": None}}] * 100
    pq.write_table(
        pa.Table.from_pylist(pictures, images_schema()), tmp_path / "images/part-0.parquet"
    )
    start = time.process_time()
    assert scan_folder(tmp_path, watch) == ()
    assert time.process_time() - start < 2
