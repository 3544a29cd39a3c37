"""The sheet of films: prompts chosen by rule, pictures where they belong."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import films
import numpy as np
import pytest
from PIL import Image

from arra_med.datasets.phantom.findings import RICH_FINDINGS
from arra_med.images import encode_png
from arra_med.store import PreparedFolder


def row(key: str, *present: str, **labels: int | None) -> dict[str, object]:
    return {
        "key": key,
        "prompt": f"prompt of {key}",
        "labels": {"Cardiomegaly": 0, "Edema": None, **dict.fromkeys(present, 1), **labels},
    }


def smallest(*keys: str) -> str:
    return min(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())


def generate(
    folder: Path, prepared: PreparedFolder, keys: Sequence[str], grey: int
) -> tuple[str, Path]:
    """A plain folder: picture 0 of a prompt in ``grey``, picture 1 white; listed last first."""
    folder.mkdir()
    lines = ["key,file,index"]
    for number, key in enumerate(keys):
        for index in (1, 0):
            value = 255 if index else grey
            side = prepared.image_size
            name = f"{number}-{index}.png"
            (folder / name).write_bytes(encode_png(np.full((side, side, 1), value, np.uint8)))
            lines.append(f"{key},{name},{index}")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    return folder.name, folder


def test_the_smallest_hash_among_those_with_the_finding_alone() -> None:
    rows = [row(f"k{n}", "Cardiomegaly") for n in range(9)] + [
        row(f"m{n}", "Cardiomegaly", "Pneumothorax") for n in range(9)
    ]
    heart, air = films.choose(rows)[0], films.choose(rows)[1]
    assert (heart.finding, heart.alone) == ("Cardiomegaly", True)
    assert heart.key == smallest(*(f"k{n}" for n in range(9)))
    assert heart.prompt == f"prompt of {heart.key}"
    assert (air.finding, air.alone) == ("Pneumothorax", False)
    assert air.key == smallest(*(f"m{n}" for n in range(9)))


def test_the_choice_does_not_depend_on_the_order() -> None:
    rows = [row(f"k{n}", "Cardiomegaly") for n in range(9)]
    assert films.choose(rows) == films.choose(rows[::-1])


def test_every_finding_of_the_study_s_films_has_a_row() -> None:
    rows = [row(str(number), finding) for number, finding in enumerate(RICH_FINDINGS)]
    assert [film.finding for film in films.choose(rows)] == list(RICH_FINDINGS)
    assert len(RICH_FINDINGS) == 12


def test_findings_count_and_nothing_else_does() -> None:
    """Uncertain and unknown findings are not present; one that phantoms do not draw still is."""
    uncertain = row("a", "Cardiomegaly", Edema=-1)
    with_other = row("b", "Cardiomegaly", "Pneumonia")
    [film] = films.choose([uncertain, with_other])
    assert (film.key, film.alone) == ("a", True)


def test_a_normal_film_says_so_or_has_no_finding_present() -> None:
    plain = [row("a"), row("b")]
    assert films.choose(plain)[0].key == smallest("a", "b")
    said = row("c", "No Finding")
    [film] = films.choose([*plain, said])
    assert (film.finding, film.key) == (films.NORMAL, "c")


def test_a_finding_that_no_prompt_has_is_left_out() -> None:
    assert films.choose([]) == []


def test_a_sheet_holds_the_real_and_the_first_pictures(
    prepared: PreparedFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [row["key"] for row in prepared.rows("test")]
    sources = [generate(tmp_path / name, prepared, keys, grey) for name, grey in
               (("none", 40), ("hybnext", 90))]  # fmt: skip
    output = tmp_path / "out" / "films.png"
    arguments = ["--prepared", str(prepared.folder), "--output", str(output), "--generated"]
    arguments += [f"{name}={folder}" for name, folder in sources]
    assert films.main(arguments) == 0
    first = output.read_bytes()
    chosen = films.choose(prepared.rows("test"))
    assert {film.finding for film in chosen} == {"Pleural Effusion", "Cardiomegaly", "normal"}
    assert "no prompt shows Pneumothorax" in capsys.readouterr().err

    with Image.open(output) as picture:
        assert (picture.mode, picture.format) == ("L", "PNG")
        drawn = np.asarray(picture)
    side, step = 64, 64 + films._GAP  # 32 px pictures, two screen pixels each
    assert drawn.shape == (films._HEAD + 3 * step, films._TEXT + 3 * step)
    real = prepared.images([film.key for film in chosen])
    for down, film in enumerate(chosen):
        cells = [
            drawn[films._HEAD + down * step :, films._TEXT + across * step :][:side, :side]
            for across in range(3)
        ]
        expected = np.asarray(films.to_picture(real[film.key]))
        assert np.array_equal(cells[0][::2, ::2], expected)
        assert np.array_equal(cells[0][1::2, 1::2], expected)
        assert (np.unique(cells[1]), np.unique(cells[2])) == (40, 90)
    assert films.main(arguments) == 0
    assert output.read_bytes() == first


def test_only_prompts_that_all_generators_drew(prepared: PreparedFolder, tmp_path: Path) -> None:
    keys = [row["key"] for row in prepared.rows("test")]
    name, folder = generate(tmp_path / "a", prepared, keys[:4], 40)
    other, elsewhere = generate(tmp_path / "b", prepared, keys[4:], 40)
    output = tmp_path / "films.png"
    status = films.main(
        ["--prepared", str(prepared.folder), "--output", str(output),
         "--generated", f"{name}={folder}", f"{other}={elsewhere}"]
    )  # fmt: skip
    assert status == 2
    assert not output.exists()


def test_a_sheet_that_grows_too_large_is_drawn_smaller_then_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    film = films.Film(finding="normal", key="a", prompt="clear.", alone=True)
    columns = {"real": {"a": Image.fromarray(noise)}}
    double = len(films.encode([film], columns))
    monkeypatch.setattr(films, "LARGEST", double - 1)
    single = films.encode([film], columns)
    assert len(single) < double
    monkeypatch.setattr(films, "LARGEST", len(single) - 1)
    with pytest.raises(films.RequestError, match="show fewer"):
        films.encode([film], columns)


def test_a_generator_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        films.main(["--prepared", "p", "--output", "o", "--generated", "folder"])
    assert "NAME=FOLDER" in capsys.readouterr().err
