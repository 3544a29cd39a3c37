"""Requirement 12: bad pictures are counted and fail above a limit; nothing replaces them."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from jsonschema import Draft202012Validator
from PIL import Image

from arra_med.cli import preflight as verb
from arra_med.errors import RequestError, WorkError
from arra_med.eval.picture_facts import (
    file_facts,
    look,
    offered_facts,
    picture_name,
    plain_facts,
    prepared_facts,
)
from arra_med.eval.preflight import check_offered, check_prepared, preflight_section
from arra_med.eval.results_schema import results_schema
from arra_med.generation.folder import GENERATIONS_SCHEMA, GeneratedFolder, image_name
from arra_med.generation.metadata import with_text
from arra_med.images import encode_png
from arra_med.schema import Sample
from arra_med.store import PartWriter
from tests.prepared import save_prepared

SIZE, TRAIN, TEST = 16, 6, 4
BLACK = np.zeros((SIZE, SIZE, 1), np.uint8)


def picture(seed, channels=1, size=SIZE):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size, size, channels), dtype=np.uint8)


def write_prepared(folder, pictures=None):
    """``pictures``: number of a sample → another picture than its own."""
    items = []
    for i in range(TRAIN + TEST):
        sample = Sample(
            key=f"p{i}/s{i}", patient_id=f"p{i}", study_id=f"s{i}",
            split="train" if i < TRAIN else "test", view="PA", prompt=f"prompt {i}",
            prompt_source="impression", labels={"Edema": 0}, modality="cxr", source=f"{i}.png",
        )  # fmt: skip
        items.append((sample, (pictures or {}).get(i, picture(i))))
    return save_prepared(folder, items, part_size=4)


def write_generated(folder, pictures=None):
    """One picture of each test prompt; ``pictures``: index → array or bytes instead."""
    rows, files = [], {}
    for i in range(TRAIN, TRAIN + TEST):
        name = image_name(f"p{i}/s{i}", 0)
        one = (pictures or {}).get(i, picture(100 + i))
        files[name] = one if isinstance(one, bytes) else encode_png(one)
        rows.append({"key": f"p{i}/s{i}", "index": 0, "prompt": f"prompt {i}", "file": name,
                     "seed": 0})  # fmt: skip
    with PartWriter(folder, kind="generated", config={"model": {"teacher": None}}) as writer:
        writer.write_part(0, files, {"images": TEST})
        table = pa.Table.from_pylist(rows, GENERATIONS_SCHEMA)
        writer.finish(1, {"generations.parquet": table})
    return GeneratedFolder(folder)


@pytest.fixture
def prepared(tmp_path):
    return write_prepared(tmp_path / "prepared")


def generated_check(generated, prepared):
    return check_offered(
        "generated", offered_facts(generated), prepared, prepared_facts(prepared)
    )  # fmt: skip


def words(check):
    return [problem.words for problem in check.problems()]


def test_clean_folders_have_no_problem(prepared, tmp_path):
    real = prepared_facts(prepared)
    assert [one.name for one in real] == prepared.keys
    assert {(one.size, one.mode) for one in real} == {((SIZE, SIZE), "L")}
    checks = [
        generated_check(write_generated(tmp_path / "generated"), prepared),
        check_prepared(prepared, real),
    ]
    assert [check.problems() for check in checks] == [[], []]
    section = preflight_section(checks)
    form = results_schema()
    Draft202012Validator(form["properties"]["preflight"] | {"$defs": form["$defs"]}).validate(
        json.loads(json.dumps(section))
    )
    assert section["copies_of_training"] == {"num": 0, "pairs": []}
    told = section["folders"][0]
    assert (told["name"], told["pictures"]) == ("generated", TEST)
    assert (told["sizes"], told["modes"]) == ({"16 × 16": TEST}, {"L": TEST})


def test_requirement_12_bad_pictures_are_counted_and_named(prepared, tmp_path):
    whole = encode_png(picture(0))
    damaged = whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]
    generated = write_generated(
        tmp_path / "generated",
        {6: b"no picture", 7: whole[: len(whole) // 2], 8: damaged, 9: BLACK},
    )
    check = generated_check(generated, prepared)
    told = check.to_json()
    assert told["num_unreadable"] == 3
    assert [one["file"] for one in told["unreadable"]] == ["p6/s6-0", "p7/s7-0", "p8/s8-0"]
    assert told["unreadable"][0]["reason"] == "UnidentifiedImageError"
    assert (told["num_constant"], told["constant"]) == (1, ["p9/s9-0"])
    assert told["pictures"] == TEST
    assert told["problems"] == ["3 pictures are unreadable", "1 picture is of one value throughout"]


def test_requirement_12_the_limit_is_a_share_of_the_pictures():
    good = [look(f"g{i}", encode_png(picture(i))) for i in range(199)]
    bad = [look(f"b{i}", b"") for i in range(3)]
    for count, limit, fails in ((1, 0.01, False), (2, 0.01, False), (3, 0.01, True), (1, 0, True)):
        check = check_offered("generated", [*good[: 200 - count], *bad[:count]], None, None)
        assert bool(check.failures(limit)) == fails
        assert len(check.problems()) == 1  # counted and said, however few


@pytest.mark.parametrize("form", ["same", "with text", "colour", "tiff"])
def test_copies_are_found_by_their_pixels(prepared, tmp_path, form):
    copy = picture(2)
    data = {
        "same": encode_png(copy),
        "with text": with_text(encode_png(copy), {"key": "p7/s7"}),
        "colour": encode_png(np.repeat(copy, 3, axis=2)),
        "tiff": _saved(tmp_path / "copy.tiff", copy),
    }[form]
    check = generated_check(write_generated(tmp_path / "generated", {7: data}), prepared)
    assert check.copies() == [("p7/s7-0", "p2/s2")]
    section = preflight_section([check])
    assert section["copies_of_training"] == {"num": 1, "pairs": [["p7/s7-0", "p2/s2"]]}
    assert "1 picture is equal to a training picture, pixel for pixel" in words(check)
    assert check.failures(0.9)  # one is too many


def _saved(path, array):
    Image.fromarray(array[..., 0]).save(path)
    return path.read_bytes()


def test_almost_a_copy_and_a_copy_of_a_test_picture_are_none(prepared, tmp_path):
    near = picture(2)
    near[3, 3] ^= 1
    generated = write_generated(tmp_path / "generated", {7: near, 8: picture(8)})
    assert generated_check(generated, prepared).copies() == []


def test_black_pictures_are_constant_and_no_copies(tmp_path):
    prepared = write_prepared(tmp_path / "prepared", {0: BLACK, 7: BLACK})
    check = generated_check(write_generated(tmp_path / "generated", {8: BLACK}), prepared)
    assert check.copies() == []
    own = check_prepared(prepared, prepared_facts(prepared))
    assert own.leaking == []
    assert words(own) == [
        "2 pictures are of one value throughout",
        "1 picture is the same as another one, pixel for pixel",
    ]


def test_pictures_in_two_splits_are_a_leak(tmp_path):
    prepared = write_prepared(tmp_path / "prepared", {1: picture(0), 3: picture(2), 8: picture(2)})
    check = check_prepared(prepared, prepared_facts(prepared))
    assert check.leaking == [["p2/s2", "p3/s3", "p8/s8"]]
    told = check.to_json()
    assert told["num_duplicates"] == 2
    assert told["duplicates"] == [["p2/s2", "p3/s3", "p8/s8"], ["p0/s0", "p1/s1"]]
    assert "3 pictures are in several splits (test, train), pixel for pixel" in words(check)
    assert check.failures(0.9)


def test_other_sizes_and_modes_than_the_real_ones(prepared, tmp_path):
    generated = write_generated(
        tmp_path / "generated", {6: picture(1, size=8), 7: picture(2, channels=3)}
    )
    check = generated_check(generated, prepared)
    assert words(check) == ["1 picture is not of 16 × 16 px", "1 picture is not 8-bit grey"]
    assert check.to_json()["sizes"] == {"16 × 16": 3, "8 × 8": 1}
    assert check.to_json()["modes"] == {"L": 3, "RGB": 1}
    free = check_offered("peer", offered_facts(generated), prepared, None, any_kind=True)
    assert free.problems() == []
    assert "not looked at" in preflight_section([free])["copies_of_training_note"]


def test_a_sample_without_picture_is_said(prepared):
    check = check_prepared(prepared, prepared_facts(prepared)[1:])
    assert words(check) == ["1 picture is missing, though the table of samples names them"]


def test_processes_give_what_one_gives(prepared, tmp_path):
    generated = write_generated(tmp_path / "generated", {6: b"no picture"})
    assert prepared_facts(prepared, workers=2) == prepared_facts(prepared, workers=0)
    assert offered_facts(generated, workers=2) == offered_facts(generated, workers=0)


def test_a_damaged_part_and_a_file_that_went_are_said(prepared, tmp_path):
    missing = file_facts([("a", tmp_path / "gone.png")])
    assert missing[0].problem == "FileNotFoundError"
    part = prepared.image_parts[1]
    part.write_bytes(part.read_bytes()[:-200])
    with pytest.raises(RequestError, match=r"part-00001.parquet is damaged.*--verify"):
        prepared_facts(prepared)


def test_one_look_tells_what_the_cohort_needs(tmp_path):
    grey = look("g", encode_png(picture(0)))
    assert (grey.size, grey.channels, grey.problem) == ((SIZE, SIZE), 1, "")
    assert look("c", encode_png(picture(0, channels=3))).channels == 3
    Image.fromarray(picture(0)[..., 0]).convert("P").save(tmp_path / "p.png")
    palette = look("p", (tmp_path / "p.png").read_bytes())
    assert (palette.mode, palette.channels, palette.problem) == ("P", None, "")
    assert palette.digest == grey.digest
    deep = (picture(0)[..., 0].astype(np.uint16) << 8) + 1
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert look("d", (tmp_path / "deep.png").read_bytes()).digest not in ("", grey.digest)
    assert picture_name({"key": "p1/s1", "index": 2}) == "p1/s1-2"


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(picture(1)[..., 0]).save(folder / "a.png")
    Image.fromarray(picture(2, 3, 40)).save(folder / "below" / "b.tiff")
    Image.fromarray(picture(2, 3, 40)).save(folder / "below" / "c.webp", lossless=True)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_plain_folder_of_pictures(plain, tmp_path):
    facts = plain_facts(plain)
    assert [one.name for one in facts] == ["a.png", "below/b.tiff", "below/c.webp"]
    check = check_offered("plain", facts, None, None)
    assert words(check) == ["1 picture is the same as another one, pixel for pixel"]
    assert check.to_json()["sizes"] == {"16 × 16": 1, "40 × 40": 2}
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="holds no picture file"):
        plain_facts(tmp_path / "empty")


def run_verb(*arguments):
    """As the command line calls it, through a parser of its own."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb")
    verb.add_parser(verbs, argparse.ArgumentParser(add_help=False))
    verb.run(parser.parse_args(["preflight", *map(str, arguments)]))


def test_the_verb_on_folders(prepared, plain, tmp_path, capsys):
    write_generated(tmp_path / "generated")
    run_verb(tmp_path / "prepared", tmp_path / "generated")
    text = capsys.readouterr().out
    assert "No problem was found." in text
    assert text.index(str(tmp_path / "generated")) < text.index(str(tmp_path / "prepared"))
    with pytest.raises(WorkError, match=r"above the limit of 1.00%, or .*plain"):
        run_verb(plain)
    text = capsys.readouterr().out
    assert "equal: below/b.tiff, below/c.webp" in text
    run_verb(plain, "--limit", "0.5")


def test_the_verb_on_a_configuration(prepared, plain, tmp_path, capsys):
    (plain / "pictures.csv").write_text("key,file\np6/s6,a.png\np7/s7,below/b.tiff\n")
    config = tmp_path / "run.yaml"
    tree = {
        "paths": {"output": str(tmp_path)},
        "evaluation": {
            "judges": [{"name": "cnn", "weights": str(tmp_path / "judge")}],
            "extractors": [{"name": "cnn", "weights": str(tmp_path / "judge")}],
            "others": [{"name": "peer", "folder": str(plain)}],
        },
    }
    config.write_text(yaml.safe_dump(tree))
    with pytest.raises(WorkError, match="in: peer"):  # a.png is a training picture
        run_verb(config, "--json")
    told = json.loads(capsys.readouterr().out)
    assert [folder["name"] for folder in told["folders"]] == ["peer", "prepared"]
    assert told["not_there"] == ["generated"]
    assert told["failures"]["peer"] == ["1 picture is equal to a training picture, pixel for pixel"]
    (plain / "pictures.csv").write_text("key;file\np6/s6;a.png\np7/s7;below/b.tiff\n")
    own = [f"paths.generated={plain}", "evaluation.others=[]"]
    with pytest.raises(RequestError, match='set delimiter: ";"'):
        run_verb(config, *own)
    with pytest.raises(WorkError, match="in: generated"):
        run_verb(config, *own, 'evaluation.delimiter=";"', "--json")
    told = json.loads(capsys.readouterr().out)
    assert [folder["name"] for folder in told["folders"]] == ["generated", "prepared"]
    write_generated(tmp_path / "drawn", {6: b"no picture"})
    with pytest.raises(WorkError, match="in: generated"):
        run_verb(config, f"paths.generated={tmp_path / 'drawn'}", "evaluation.others=[]")
    text = capsys.readouterr().out
    assert "1 picture is unreadable" in text
    assert "unreadable: p6/s6-0 (UnidentifiedImageError)" in text


def test_pictures_of_other_prompts_are_refused_as_evaluate_refuses_them(prepared, tmp_path):
    """Before any network is loaded, not after a night of drawing."""
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"paths": {"output": str(tmp_path)}}))
    write_generated(tmp_path / "generated")
    run_verb(config)
    rows = pq.read_table(tmp_path / "generated" / "generations.parquet").to_pylist()
    table = pa.Table.from_pylist([row | {"prompt": "others"} for row in rows], GENERATIONS_SCHEMA)
    pq.write_table(table, tmp_path / "generated" / "generations.parquet")
    with pytest.raises(RequestError, match=r"prompt of .* pictures is not the one"):
        run_verb(config)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["nowhere"], FileNotFoundError, "no folder at nowhere"),
        (["nowhere.yaml"], FileNotFoundError, "no configuration file"),
        (["{tmp}", "--limit", "1"], RequestError, "a share of the pictures"),
        (["{tmp}", "--workers", "-1"], RequestError, "not be negative"),
        (["{tmp}"], RequestError, "holds no picture file"),
    ],
)
def test_wrong_requests(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run_verb(*(word.format(tmp=tmp_path) for word in arguments))


def test_folders_of_ours_without_pictures_are_refused(tmp_path):
    with PartWriter(tmp_path / "tokens", kind="tokens", config={}) as writer:
        writer.write_part(0, {"a.parquet": pa.table({"a": [1]})}, {})
        writer.finish(1)
    with pytest.raises(RequestError, match="holds 'tokens', no pictures"):
        run_verb(tmp_path / "tokens")
    assert pq.read_table(tmp_path / "tokens" / "a.parquet").num_rows == 1


def test_torch_is_not_imported(plain):
    code = (
        "import sys; from pathlib import Path; "
        "from arra_med.eval.picture_facts import plain_facts; "
        f"plain_facts(Path({str(plain)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
