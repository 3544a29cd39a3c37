"""Folders of any pictures with a CSV beside them, taken as a generator's."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from arra_med.datasets.base import UnreadableImage
from arra_med.errors import RequestError
from arra_med.eval.cohort import load_cohort
from arra_med.eval.plain_folder import open_other, open_pictures
from arra_med.generation.folder import GENERATIONS_SCHEMA, image_name
from arra_med.images import decode_png, encode_png, fit
from arra_med.schema import Sample
from arra_med.settings import OtherPictures
from arra_med.store import PartWriter
from tests.prepared import save_prepared

SIZE = 32
NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)


def prepared_folder(folder, *, channels=1, crop="center-crop"):
    items = []
    for i in range(6):
        sample = Sample(
            key=f"p{i}/s{i}", patient_id=f"p{i}", study_id=f"s{i}",
            split="train" if i < 2 else "test", view="PA", prompt=f"prompt, number {i}",
            prompt_source="impression", labels={"Edema": i % 2}, modality="cxr", source=f"{i}.png",
        )  # fmt: skip
        items.append((sample, NOISE[i : i + SIZE, i : i + SIZE, :channels]))
    return save_prepared(folder, items, **({"crop": crop} if crop else {}))


@pytest.fixture
def prepared(tmp_path):
    return prepared_folder(tmp_path / "prepared")


@pytest.fixture
def peer(tmp_path):
    folder = tmp_path / "peer"
    folder.mkdir()
    return folder


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_table(folder, lines, header="key,file", name="pictures.csv"):
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def four(folder, array=NOISE[:SIZE, :SIZE, 0]):
    """One picture of each test prompt."""
    for i in range(2, 6):
        save(folder / f"{i}.png", array + i)
    write_table(folder, [f"p{i}/s{i},{i}.png" for i in range(2, 6)])


def test_pictures_that_fit_are_taken_as_they_are(prepared, peer):
    four(peer)
    found = open_pictures(peer, prepared, name="peer")
    assert (found.name, found.kind, found.resized) == ("peer", "plain folder", None)
    assert [(row["key"], row["index"]) for row in found.rows] == [
        (f"p{i}/s{i}", 0) for i in range(2, 6)
    ]
    assert [row["prompt"] for row in found.rows] == [f"prompt, number {i}" for i in range(2, 6)]
    np.testing.assert_array_equal(
        decode_png(found.png(found.rows[0]))[..., 0], NOISE[:SIZE, :SIZE, 0] + 2
    )
    cohort = load_cohort(prepared, found)
    assert (cohort.split, len(cohort.pictures), cohort.images_per_prompt) == ("test", 4, 1)


def test_a_plain_folder_does_not_say_what_trained_it(prepared, peer):
    four(peer)
    model = open_pictures(peer, prepared, name="peer").manifest["config"]["model"]
    assert model == {"name": "peer", "kind": "plain folder"}  # no 'teacher': unknown, not none


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_sizes_and_formats_are_brought_to_the_real_ones(prepared, peer, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    array = NOISE[:48, :48]
    save(peer / f"a.{suffix}", array, **options)
    write_table(peer, [f"p2/s2,a.{suffix}"])
    found = open_pictures(peer, prepared)
    pixels = decode_png(found.png(found.rows[0]))
    grey = np.asarray(Image.fromarray(array).convert("L"))
    assert pixels.shape == (SIZE, SIZE, 1)
    difference = np.abs(pixels[..., 0].astype(int) - fit(grey, SIZE, "center-crop"))
    assert difference.mean() < (12 if suffix == "jpg" else 1e-9)
    assert found.resized == (
        "of 1 pictures, 1 of 48 × 48 px brought to 32 × 32 px (anti-aliased bicubic); "
        "1 in colour made grey (ITU-R 601 luma)"
    )


@pytest.mark.parametrize("crop", ["center-crop", "pad", "squash"])
def test_oblong_pictures_are_made_square_as_the_real_ones_were(tmp_path, peer, crop):
    prepared = prepared_folder(tmp_path / "prepared", crop=crop)
    array = NOISE[:64, :96, 0]
    save(peer / "a.png", array)
    write_table(peer, ["p2/s2,a.png"])
    found = open_pictures(peer, prepared)
    np.testing.assert_array_equal(
        decode_png(found.png(found.rows[0]))[..., 0], fit(array, SIZE, crop)
    )
    assert "as the real pictures were made square" in found.resized


def test_oblong_pictures_are_refused_where_nobody_knows_how(tmp_path, peer):
    prepared = prepared_folder(tmp_path / "prepared", crop=None)
    save(peer / "a.png", NOISE[:64, :96, 0])
    write_table(peer, ["p2/s2,a.png"])
    with pytest.raises(RequestError, match="1 of 1 are not square"):
        open_pictures(peer, prepared)


def test_grey_and_deep_pictures_for_a_colour_folder(tmp_path, peer):
    prepared = prepared_folder(tmp_path / "prepared", channels=3)
    save(peer / "a.png", NOISE[:SIZE, :SIZE, 0])
    save(peer / "b.png", NOISE[:SIZE, :SIZE, 0].astype(np.uint16) * 200)
    write_table(peer, ["p2/s2,a.png", "p3/s3,b.png"])
    found = open_pictures(peer, prepared)
    for row in found.rows:
        assert decode_png(found.png(row)).shape == (SIZE, SIZE, 3)
    assert "2 grey ones given three equal channels" in found.resized
    assert "1 of more than 8 bits stretched" in found.resized


def test_several_pictures_of_a_prompt_and_its_own_prompt_column(prepared, peer):
    save(peer / "a" / "1.png", NOISE[:SIZE, :SIZE, 0])
    save(peer / "a" / "2.png", NOISE[1 : SIZE + 1, :SIZE, 0])
    write_table(
        peer,
        ['p2/s2,a/1.png,0,"prompt, number 2 "', 'p2/s2,a/2.png,1,"prompt, number 2"'],
        "key,file,index,prompt",
        "other.csv",
    )
    found = open_pictures(peer, prepared, table=peer / "other.csv")
    assert [row["index"] for row in found.rows] == [0, 1]
    assert load_cohort(prepared, found).images_per_prompt == 2


def test_its_hash_is_of_what_the_pictures_show(prepared, peer):
    four(peer)
    before = open_pictures(peer, prepared).content_hash()
    assert open_pictures(peer, prepared).content_hash() == before
    save(peer / "3.png", NOISE[5 : SIZE + 5, :SIZE, 0])
    assert open_pictures(peer, prepared).content_hash() != before


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["p2/s2,2.png"], "key,picture", "column.*'?file"),
        (["p2/s2,2.png"], "name,file", "column.*'?key"),
        (["p9/s9,2.png", "p3/s3,3.png"], "key,file",
         "1 line have a key that is not in the prepared folder \\(line 2\\)"),
        (["p2/s2,../prepared/samples.parquet"], "key,file", "outside the folder"),
        (["p2/s2,/etc/passwd"], "key,file", "outside the folder"),
        (["p2/s2,gone.png"], "key,file", "a file that is not there"),
        (["p2/s2,2.png,first"], "key,file,index", "'index' that is not a whole number"),
        (["p2/s2,2.png,-1"], "key,file,index", "'index' that is not a whole number"),
        (["p2/s2,2.png,something"], "key,file,prompt", "another prompt"),
        (["p2/s2,2.png", "p2/s2,3.png"], "key,file", "stand there twice .*\\(line 3\\)"),
        (["p2/s2,2.png", "p3/s3,2.png"], "key,file", "a file that another line names"),
        (["p2/s2"], "key,file", "too few or too many fields"),
        ([], "key,file", "names no picture"),
        (["p9/s9,2.png", "p2/s2,gone.png"], "key,file", "not in the prepared .*; .*not there"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused_with_their_lines(prepared, peer, lines, header, message):
    four(peer)
    write_table(peer, lines, header)
    with pytest.raises(RequestError, match=message) as error:
        open_pictures(peer, prepared, name="peer")
    assert "something" not in str(error.value)  # no text of the table but keys and columns


def test_folders_that_are_not_there_or_have_no_table(prepared, tmp_path, peer):
    with pytest.raises(
        FileNotFoundError, match=r"no folder at .*nowhere: run 'arra-med generate' first"
    ):
        open_pictures(tmp_path / "nowhere", prepared)
    with pytest.raises(FileNotFoundError, match=r"no manifest.json\) nor a table .*pictures.csv"):
        open_pictures(peer, prepared)
    (peer / "list.txt").write_text("key,file\n")
    with pytest.raises(RequestError, match="expected a table"):
        open_pictures(peer, prepared, table=peer / "list.txt")


def test_a_table_of_another_encoding_and_delimiter(prepared, peer):
    four(peer)
    (peer / "ä.png").write_bytes((peer / "2.png").read_bytes())
    text = "key;file\np2/s2;ä.png\np3/s3;3.png\n"
    (peer / "pictures.csv").write_bytes(text.encode("cp1252"))
    with pytest.raises(RequestError, match=r"not utf-8: byte 0xe4 in line 2. Set encoding"):
        open_pictures(peer, prepared)
    with pytest.raises(RequestError, match='set delimiter: ";"'):
        open_pictures(peer, prepared, encoding="cp1252")
    other = OtherPictures(name="peer", folder=peer, encoding="cp1252", delimiter=";")
    assert [row["file"] for row in open_other(other, prepared).rows] == ["ä.png", "3.png"]
    with pytest.raises(ValueError, match=r"delimiter without effect on a \.parquet file"):
        OtherPictures(name="peer", folder=peer, table=peer / "t.parquet", delimiter=";")


def test_unreadable_pictures_raise_when_they_are_read(prepared, peer):
    """Opening reads headers alone; whoever reads the pictures counts those that fail."""
    four(peer)
    (peer / "3.png").write_bytes(b"not a picture")
    found = open_pictures(peer, prepared)
    found.png(found.rows[0])
    with pytest.raises(UnreadableImage):
        found.png(found.rows[1])


def write_generated(folder, arrays):
    files = {image_name(f"p{i}/s{i}", 0): encode_png(array) for i, array in arrays.items()}
    rows = [
        {"key": f"p{i}/s{i}", "index": 0, "prompt": f"prompt, number {i}",
         "file": image_name(f"p{i}/s{i}", 0), "seed": 0}
        for i in arrays
    ]  # fmt: skip
    config = {"model": {"name": "run", "teacher": None}, "images_per_prompt": 1}
    with PartWriter(folder, kind="generated", config=config) as writer:
        writer.write_part(0, files, {"images": len(rows)})
        table = pa.Table.from_pylist(rows, GENERATIONS_SCHEMA)
        writer.finish(1, {"generations.parquet": table})


def test_a_generated_folder_of_the_same_size_is_left_as_it_is(prepared, tmp_path):
    write_generated(tmp_path / "run", {2: NOISE[:SIZE, :SIZE, :1], 3: NOISE[1:33, :SIZE, :1]})
    found = open_pictures(tmp_path / "run", prepared, name="run")
    assert (found.kind, found.resized) == ("run", None)
    assert found.png(found.rows[0]) == (tmp_path / "run" / found.rows[0]["file"]).read_bytes()
    assert found.manifest["config"]["model"] == {"name": "run", "teacher": None}
    with pytest.raises(RequestError, match="needs no table: remove 'table'"):
        open_pictures(tmp_path / "run", prepared, table=tmp_path / "pictures.csv")
    with pytest.raises(RequestError, match="needs no table: remove 'encoding' and 'delimiter'"):
        open_pictures(tmp_path / "run", prepared, encoding="cp1252", delimiter=";")


def test_a_generated_folder_of_another_size_is_resized_only_as_a_whole(prepared, tmp_path):
    write_generated(tmp_path / "run", {2: NOISE[:64, :64], 3: NOISE[1:65, :64]})
    found = open_pictures(tmp_path / "run", prepared)
    assert "2 of 64 × 64 px brought to 32 × 32 px" in found.resized
    assert Image.open(io.BytesIO(found.png(found.rows[0]))).size == (SIZE, SIZE)
    assert len(load_cohort(prepared, found).pictures) == 2
    write_generated(tmp_path / "odd", {2: NOISE[:SIZE, :SIZE, :1], 3: NOISE[:64, :64, :1]})
    found = open_pictures(tmp_path / "odd", prepared)
    assert found.resized is None
    with pytest.raises(RequestError, match="must be alike"):
        load_cohort(prepared, found)
