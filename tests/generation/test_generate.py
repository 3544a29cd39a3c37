"""The generate stage: the same pictures for any batch size, resumable, and self-describing."""

import errno
import io
import json
import logging
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from arra_med.errors import RequestError, WorkError
from arra_med.generation import backend as backends
from arra_med.generation import write as writing
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.language_model import LanguageModel
from arra_med.images import decode_png
from arra_med.model.export import load_export
from arra_med.settings import Generation
from arra_med.store import PreparedFolder, Shard, sha256_file, verify
from arra_med.store import parts as store_parts
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from tests.generation.conftest import Run, write_tiny_export
from tests.test_store import contents
from tests.training.ranks import Ranks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _folders(prepared: PreparedFolder, export: Path) -> None:
    """Every test here draws with the export, from the prepared folder unless it says otherwise."""


def test_any_batch_size_draws_the_same_pictures(run: Run, tmp_path: Path) -> None:
    for size in (1, 3, 16, "auto"):
        run(f"b{size}", batch_size=size)
    assert contents(tmp_path / "b1") == contents(tmp_path / "b3") == contents(tmp_path / "b16")
    assert contents(tmp_path / "b1") == contents(tmp_path / "bauto")


def test_the_folder_says_what_it_holds(
    run: Run, prepared: PreparedFolder, export: Path, tmp_path: Path
) -> None:
    manifest = run("g")
    generated = GeneratedFolder(tmp_path / "g")
    expected = [(row["key"], i) for row in prepared.rows("test") for i in range(2)]
    assert [(row["key"], row["index"]) for row in generated.rows] == expected
    first = generated.rows[0]
    assert first["file"] == f"images/{first['key']}-0.png"
    assert (first["seed"], first["guidance"], first["top_k"], first["top_p"]) == (0, 2.0, 8, 1.0)
    assert first["prompt"] == prepared.row(first["key"])["prompt"]
    assert decode_png(generated.png(first)).shape == (32, 32, 1)
    assert manifest["config"]["model"]["content_hash"] == load_export(export, CPU).content_hash
    assert manifest["config"]["prepared"] == prepared.content_hash
    assert manifest["counts"] == {"images": 16}
    assert manifest["warnings"] == []
    assert verify(tmp_path / "g", "generated") == 18  # pictures, table, contact sheet
    text = json.dumps(manifest)
    assert not any(row["prompt"] in text for row in generated.rows)


def test_a_png_says_what_drew_it_and_not_the_prompt(run: Run, export: Path, tmp_path: Path) -> None:
    prompt = "PA view chest x-ray image, Erguß links."
    run("g", prompt=prompt, temperature=0.9)
    data = (tmp_path / "g" / "images" / "prompt-00001-1.png").read_bytes()
    text = Image.open(io.BytesIO(data)).text
    assert text.pop("Software").startswith("arra_med ")
    assert "not a picture of a patient" in text.pop("Comment")
    assert text == {
        "model": "llama-arra-tiny", "model_hash": load_export(export, CPU).content_hash[:12],
        "key": "prompt-00001", "index": "1", "seed": "0", "guidance": "2",
        "guidance_schedule": "constant", "temperature": "0.9", "top_k": "8", "top_p": "1",
    }  # fmt: skip
    run("told", prompt=prompt, prompt_in_metadata=True)
    picture = Image.open(tmp_path / "told" / "images" / "prompt-00001-1.png")
    assert picture.text["prompt"] == prompt


def test_interrupted_and_resumed_gives_the_same_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("whole", part_size=4, dicom=True)
    drawn = []
    start = LanguageModel.start

    def start_twice(self, requests):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return start(self, requests)

    monkeypatch.setattr(LanguageModel, "start", start_twice)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", part_size=4, dicom=True)
    monkeypatch.undo()
    done = list((tmp_path / "stopped" / ".partial").glob("done-*.json"))
    assert 1 <= len(done) <= 2
    run("stopped", part_size=4, dicom=True)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


CONFIG = """
paths: {{output: {output}}}
device: cpu
generation: {{guidance: 2, top_k: 8, images_per_prompt: 2, part_size: 2, batch_size: 2}}
"""


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_set(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path))
    where = [str(config), f"paths.export={tmp_path / 'export'}"]
    marks = tmp_path / "generated" / ".partial"
    job = Ranks(tmp_path / "generate.log", "generate", *where)
    job.until(lambda: bool(list(marks.glob("done-*.json"))), seconds=280)
    job.send(signal.SIGKILL, 0)
    assert job.codes() == [-signal.SIGKILL], "it was done before it could be killed"
    with pytest.raises(FileNotFoundError, match="not finished"):
        GeneratedFolder(tmp_path / "generated")
    run("generated", part_size=2)
    run("whole", part_size=2)
    assert contents(tmp_path / "generated") == contents(tmp_path / "whole")


def test_four_shards_equal_one_run(run: Run, tmp_path: Path) -> None:
    run("whole", part_size=3)
    for index in (2, 0, 3, 1):
        assert run("shared", part_size=3, shard=Shard(index, 4)) == {}
    with pytest.raises(FileNotFoundError, match="not finished"):
        GeneratedFolder(tmp_path / "shared")
    run("shared", part_size=3)
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_joining_shards_needs_no_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(2):
        run("shared", shard=Shard(index, 2))
    monkeypatch.setattr("arra_med.generation.source.load_export", None)
    assert run("shared")["counts"] == {"images": 16}


def test_a_full_disk_is_said_so_and_leaves_nothing_half_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("whole", part_size=4)
    write = store_parts.write_atomic
    written = []

    def write_until_full(path, content):
        written.append(path)
        if len(written) > 12:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store_parts, "write_atomic", write_until_full)
    with pytest.raises(WorkError, match=r"the disk is full: .* is not finished\. Make room"):
        run("full", part_size=4)
    monkeypatch.undo()
    assert len(list((tmp_path / "full" / ".partial").glob("done-*.json"))) == 1
    with pytest.raises(FileNotFoundError, match="not finished"):
        GeneratedFolder(tmp_path / "full")
    run("full", part_size=4)
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def test_another_seed_or_setting_is_another_folder(run: Run, tmp_path: Path) -> None:
    run("g")
    with pytest.raises(RequestError, match=r"guidance \(2.0 there, 3.0 asked for\)"):
        run("g", guidance=3.0)
    run("other", seed=1)
    names = [row["file"] for row in GeneratedFolder(tmp_path / "g").rows]
    assert any(
        (tmp_path / "g" / n).read_bytes() != (tmp_path / "other" / n).read_bytes() for n in names
    )


def test_a_limit_takes_prompts_evenly(run: Run, prepared: PreparedFolder, tmp_path: Path) -> None:
    run("g", limit=3, images_per_prompt=1)
    rows = prepared.rows("test")
    table = pq.read_table(tmp_path / "g" / "generations.parquet")
    assert table["key"].to_pylist() == [rows[0]["key"], rows[4]["key"], rows[7]["key"]]


def test_prompts_of_like_length_are_drawn_together(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["a b c d e f", "a", "a b c d e", "a b", "a b c", "a b c d"]
    (tmp_path / "p.txt").write_text("\n".join(lines))
    seen = []
    start = LanguageModel.start

    def watch(self, requests):
        seen.append([r.prompt.text for r in requests])
        return start(self, requests)

    monkeypatch.setattr(LanguageModel, "start", watch)
    run("g", prompts=tmp_path / "p.txt", images_per_prompt=1, batch_size=2, part_size=4)
    assert seen == [[lines[0], lines[2]], [lines[5], lines[4]], [lines[3], lines[1]]]
    rows = GeneratedFolder(tmp_path / "g").rows
    assert [row["prompt"] for row in rows] == lines  # in the file's own order


@pytest.mark.parametrize(
    ("fits", "expected"), [(7, [4] * 4), (9, [8, 8]), (1, [1] * 16), (15, [8, 8])]
)
def test_auto_takes_batches_that_are_much_alike(
    run: Run, monkeypatch: pytest.MonkeyPatch, fits: int, expected: list[int]
) -> None:
    sizes = []
    start = LanguageModel.start

    def watch(self, requests):
        sizes.append(len(requests))
        return start(self, requests)

    monkeypatch.setattr(LanguageModel, "start", watch)
    monkeypatch.setattr(LanguageModel, "largest_batch", lambda self, longest: fits)
    run("g", part_size=16)
    assert sizes == expected


def test_a_number_that_nothing_divides_is_not_drawn_one_by_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(LanguageModel, "largest_batch", lambda self, longest: 6)
    run("g", part_size=13)
    assert "batches of 5 pictures (6 fit)" in caplog.text


def test_too_large_a_batch_for_the_memory_says_what_to_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self, requests):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried")

    monkeypatch.setattr(LanguageModel, "start", start)
    with pytest.raises(WorkError, match=r"16 pictures together.*set generation.batch_size to less"):
        run("g", batch_size=16)


def test_guidance_without_dropped_prompts_is_warned_of(
    run: Run, export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arra = export / "arra.json"
    arra.write_text(json.dumps(json.loads(arra.read_text()) | {"prompt_dropout": 0}))
    listed = json.loads((export / "manifest.json").read_text())
    listed["files"]["arra.json"] = sha256_file(arra)
    (export / "manifest.json").write_text(json.dumps(listed))
    manifest = run("g", limit=1)
    assert "never saw a dropped prompt" in caplog.text
    assert "set generation.guidance to 1" in manifest["warnings"][0]
    assert run("unguided", limit=1, guidance=1)["warnings"] == []


def test_prompts_that_are_too_long_are_refused_or_cut_and_counted(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["short", "a rather long one " * 40, "short too"]
    (tmp_path / "p.txt").write_text("\n".join(lines))
    with pytest.raises(RequestError, match=r"1 of 3 prompts are longer than the 128 tokens.*00002"):
        run("g", prompts=tmp_path / "p.txt")
    manifest = run("g", prompts=tmp_path / "p.txt", long_prompts="truncate")
    assert manifest["counts"] == {"images": 6, "truncated_prompts": 1}
    assert "1 of 3 prompts are cut" in caplog.text
    assert "rather" not in caplog.text


def test_a_contact_sheet_shows_pictures_evenly(run: Run, tmp_path: Path) -> None:
    run("g", images_per_prompt=1)
    sheet = np.asarray(Image.open(tmp_path / "g" / "contact-sheet.png"))
    assert sheet.shape == (32, 8 * 34 - 2)
    rows = GeneratedFolder(tmp_path / "g").rows
    last = decode_png(GeneratedFolder(tmp_path / "g").png(rows[7]))
    assert np.array_equal(sheet[:, 7 * 34 :], last[..., 0])


def test_a_colour_model_draws_grey_pictures_if_asked(
    run: Run, tmp_path: Path, prepared: PreparedFolder
) -> None:
    colour = write_tiny_export(tmp_path / "colour", channels=3)
    manifest = run("colour3", export=colour, prompt="clear.")
    assert manifest["channels"] == 3
    rgb = np.asarray(Image.open(tmp_path / "colour3/images/prompt-00001-0.png")).astype(float)
    assert run("colour1", export=colour, prompt="clear.", channels=1)["channels"] == 1
    grey = np.asarray(Image.open(tmp_path / "colour1/images/prompt-00001-0.png"))
    assert np.array_equal(grey, np.round(rgb @ [0.299, 0.587, 0.114]))
    run("as-prepared", export=colour, limit=1)  # pictures like those of the prepared folder
    row = GeneratedFolder(tmp_path / "as-prepared").rows[0]
    assert Image.open(tmp_path / "as-prepared" / row["file"]).mode == "L"


def test_what_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no exported model at .*arra-med train"):
        run("g", export=tmp_path / "none")
    (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"did not end.*arra-med export"):
        run("g", export=tmp_path / "run" / "export")
    run("g")
    row = GeneratedFolder(tmp_path / "g").rows[0]
    (tmp_path / "g" / row["file"]).unlink()
    with pytest.raises(RequestError, match="1 of 16 pictures are missing"):
        GeneratedFolder(tmp_path / "g")


def test_parts_that_do_not_belong_together_are_refused(
    run: Run, export: Path, tmp_path: Path
) -> None:
    options = MonaiVqvaeOptions(
        channels=(8, 8, 8), residual_layers=1, num_codes=32, code_dimension=8
    )
    other = MonaiVqvae.create(options, image_size=32, channels=1, seed=0)
    other.save(tmp_path / "other")
    with pytest.raises(RequestError, match=r"another number of codes \(32, not 16\)"):
        run("g", image_tokenizer=tmp_path / "other")
    for name, codes, message in (("seed", 16, "another codebook"), ("f4", 16, "4 px, not 8 px")):
        options = replace(options, num_codes=codes, channels=(8, 8, 8)[name == "f4" :])
        MonaiVqvae.create(options, image_size=32, channels=1, seed=9).save(tmp_path / name)
        with pytest.raises(RequestError, match=message):
            run("g", image_tokenizer=tmp_path / name)
    other.save(export / "image_tokenizer")
    with pytest.raises(RequestError, match="does not fit together"):
        load_export(export, CPU)


def test_a_tokenizer_without_decoder_is_refused_with_the_remedy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MonaiVqvae, "can_decode", False)
    with pytest.raises(RequestError, match=r"encoder only.*set generation\.image_tokenizer"):
        run("g")
    assert not list((tmp_path / "g").glob("images/**/*.png"))


def test_a_size_the_model_cannot_be_asked_for(run: Run) -> None:
    with pytest.raises(RequestError, match="multiples of 8 px"):
        run("g", size=(30, 32))
    with pytest.raises(RequestError, match="no tokens that name an image's size"):
        run("g", size=(64, 64))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_p": 0}, "top_p must be above 0"),
        ({"guidance": float("inf")}, "guidance must be 0 or more"),
        ({"guidance": 1e39}, "guidance must be at most 10000"),
        ({"temperature": 1e-308}, "temperature must be 0 or at least 1e-06"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"prompt": "a", "prompts": Path("p.txt")}, "one of 'prompt' and 'prompts'"),
        ({"carry": ("label",)}, "columns of a table"),
    ],
)
def test_contradictions_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Generation(**wrong)


def test_no_text_of_a_prompt_reaches_the_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run("g", prompt="zebra effusion")
    assert "zebra" not in caplog.text


def test_a_picture_that_was_changed_is_not_taken_for_the_drawn_one(
    run: Run, tmp_path: Path
) -> None:
    run(tmp_path / "g")
    folder = GeneratedFolder(tmp_path / "g")
    first, second = folder.rows[:2]
    assert folder.png(first)
    (tmp_path / "g" / first["file"]).write_bytes(folder.png(second))
    with pytest.raises(RequestError, match="a picture was changed after it was drawn"):
        folder.png(first)


def test_colour_from_grey() -> None:
    grey = torch.randint(0, 255, (2, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(backends.to_channels(grey, 3), grey.repeat(1, 3, 1, 1))


def test_a_carried_column_may_not_hide_one_of_ours(run: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["clear."], "seed": ["1"]}), tmp_path / "t.parquet")
    with pytest.raises(RequestError, match=r"a column 'seed' of its own"):
        run("g", prompts=tmp_path / "t.parquet", carry=("seed",))
    assert writing.scratch(3) == ".partial/rows-00003.parquet"
