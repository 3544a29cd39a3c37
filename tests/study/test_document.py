"""The study's page and figures, from made-up results."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import document
import figures
import pytest
import questions
from matplotlib.figure import Figure
from records import load

STUDY = Path(__file__).parents[2] / "scripts" / "study"
SETUP = {
    "collections": {"study": {"train": 20000, "test": 2000, "seed": 11}},
    "image_tokenizer": {"psnr": 31.25, "codes": 1024},
    "teachers": {"cross-modal": {"cls": {"macro_auroc": 0.913, "auroc": {"Cardiomegaly": 0.9}}}},
    "judge": {"Cardiomegaly": {"value": 0.95, "low": 0.93, "high": 0.97}},
    "reference": {"real": {"fd": {"value": 0.25, "low": None, "high": None}}},
    "seconds": {"draw": 120.0},
}


def save_run(folder: Path, arm: str, seed: int, size: str = "small", shift: float = 0.0) -> Path:
    """A run whose FD falls as 4 / √step, less for the aligned arm by half, and a little a seed."""
    points = []
    for step in (1, 4, 16):
        fd = 4 / step**0.5 * (0.5 if arm == "hybnext" else 1) + 0.01 * seed**2 + shift
        measures = {
            "fd": {"value": fd, "low": fd - 0.1, "high": fd + 0.1},
            "auroc": {"value": 0.8 + 0.001 * seed, "low": None, "high": None},
        }
        points.append(
            {
                "step": step, "samples": 128 * step, "tokens": 32_768 * step, "split": "test",
                "pictures": 2000, "validation_cross_entropy": 4 - fd / 100, "measures": measures,
            }
        )  # fmt: skip
    loss = None if arm.endswith("none") else 0.5
    record = {
        "arm": arm, "size": size, "seed": seed, "overrides": [f"alignment.arm={arm}"],
        "parameters": 27_100_000, "device": "a card", "evaluated_on": "a card",
        "versions": {"torch": "2.11"},
        "start": None, "teacher": None if loss is None else "w", "clipped_share": 0.25,
        "made_with": {"pictures": "p", "image_tokenizer": "t", "judge": "j"},
        "findings": {
            "Cardiomegaly": {"auroc": 0.8 + 0.01 * seed, "side": None},
            "Fracture": {"auroc": 0.75, "side": 0.5 + 0.1 * seed if loss is None else 0.25},
        },
        "seconds": {"train": 90.0 + seed, "generate": 12.0, "evaluate": 30.0}, "points": points,
        "validation": [
            {"step": step, "cross_entropy": 4.0, "alignment": loss and loss / step}
            for step in (1, 4, 16)
        ],
        "diagnosis": {
            "samples": 256,
            "weight": 2.0,
            "points": [
                {
                    "step": step, "prompted": 4.0, "dropped": 4.0 + step / 256,
                    "pull": loss
                    and {"cross_entropy": 4.0, "alignment": 1.0 + seed, "cosine": 1 / step},
                }
                for step in (1, 4, 16)
            ],
        },
        "losses": [
            {"step": step, "tokens": 32_768 * step, "cross_entropy": 4.0, "alignment": loss}
            for step in range(1, 17)
        ],
    }  # fmt: skip
    path = folder / "runs" / f"{size}-{arm}-seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The two main arms with three seeds, and another one with one."""
    for seed in range(3):
        save_run(tmp_path / "results", "none", seed)
        save_run(tmp_path / "results", "hybnext", seed, shift=0.001 * seed)
    save_run(tmp_path / "results", "rep", 0)
    (tmp_path / "results" / "setup.json").write_text(json.dumps(SETUP))
    return tmp_path / "results"


def run(results: Path, *more: str) -> int:
    docs = results.parent / "docs"
    return document.main(["--results", str(results), "--docs", str(docs), *more])


def text_of(results: Path) -> str:
    study = load(results)
    drawn = figures.payloads(study)
    return document.page(study, drawn, films=False)


def rows_of(text: str, first: str) -> list[list[str]]:
    """Cells of the table rows that begin with a cell."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def tables(text: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def test_written_once_it_agrees_and_changed_results_are_noticed(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results) == 0
    docs = results.parent / "docs"
    drawn = sorted(path.stem for path in (docs / "study").iterdir())
    assert drawn == ["curves", "curves-arms", "main", "span"]
    assert run(results, "--check") == 0
    before = {path: path.read_bytes() for path in docs.rglob("*") if path.is_file()}

    save_run(results, "rep", 0, shift=1.0)
    assert run(results, "--check") == 1
    said = capsys.readouterr().err
    assert "study.md is not what the results give" in said
    assert "span.svg was not drawn" in said
    assert "main.svg" not in said
    assert before == {path: path.read_bytes() for path in docs.rglob("*") if path.is_file()}

    (docs / "study" / "main.svg").rename(docs / "study" / "maim.svg")
    assert run(results, "--check") == 1
    said = capsys.readouterr().err
    assert "maim.svg belongs to no figure" in said
    assert "main.svg was not drawn" in said


def test_without_results_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "results") == 2
    assert "run the study first" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_numbers_and_verdicts_of_the_main_question(results: Path) -> None:
    """FD ends at 1 + 0.01 s² and at 0.5 + 0.01 s² + 0.001 s for the seeds s = 0, 1, 2."""
    fd = rows_of(text_of(results), "FD ↓")[0]
    assert fd[1].startswith("1.017 (")
    assert fd[2] == "0.917 to 1.117"
    # the differences are -0.500, -0.499 and -0.498: half width 4.3027 · 0.001 / √3
    assert fd[5] == "−0.4990 (−0.5015 to −0.4965): **lower (better)**"
    assert fd[6] == "0.250"


def test_an_arm_that_was_not_run_is_said_and_not_filled(results: Path) -> None:
    save_run(results, "lambda-2", 0)
    text = text_of(results)
    assert rows_of(text, "`lambda-0.5`: λ 0.5")[0][1:] == ["not yet run"] * 7
    assert rows_of(text, "`lambda-0.5` − `hybnext`")[0][2:] == ["not yet run"] * 6
    start = text.split('<a id="start">')[1].split('<a id="size">')[0]
    assert start.splitlines()[-2] == "Not yet run."
    large = text.split("### Large model")[1].split('<a id="curves">')[0]
    assert large.split("![")[0].strip() == "Not yet run."
    one = rows_of(text, "`rep`: one token")[0]
    assert one[1:3] == ["1", "1.000"]
    assert rows_of(text, "`rep` − `none`")[0][2] == "0.0000: no interval from 1 seed"


def test_a_measure_that_no_run_has_leaves_a_gap(results: Path) -> None:
    assert set(rows_of(text_of(results), "KID ↓")[0][1:]) == {"–"}


def test_tokens_saved(results: Path) -> None:
    """FD is halved everywhere, so that 4 / √16 is reached near 16 / 4 steps."""
    text = text_of(results).split('<a id="curves">')[1]
    none, hybnext = rows_of(text, "small")[:2]
    assert none[5:] == [
        "not reached", "not within 0.524 M (1.00 times)", "not in any of 3 seeds"
    ]  # fmt: skip
    assert hybnext[6] == "0.25"


def test_what_was_trained_twice_is_told_by_seed(results: Path) -> None:
    assert "trained twice" not in text_of(results)
    for seed in (0, 2):
        save_run(results, "none", seed, size="longer", shift=0.5)
    save_run(results, "hybnext", 2, size="longer", shift=1.5)
    text = text_of(results)
    rows = {
        (row[0], row[1]): row[2]
        for name in ("none", "hybnext")
        for row in rows_of(text, f"`{name}`")
    }
    assert rows["`none`", "0"] == "1.000, 1.500"
    assert rows["`none`", "2"] == "1.040, 1.540"
    assert rows["`none`", "mean"] == "1.020, 1.520"
    assert ("`none`", "1") not in rows
    (gap,) = (row for row in rows_of(text, "`hybnext` − `none`") if row[1] == "2")
    assert gap[2] == "−0.4980, 0.5000"


def test_the_paper_s_direction_is_held_against_ours(results: Path) -> None:
    for seed in (1, 2):
        save_run(results, "rep", seed, shift=0.002 * seed)
    [row] = rows_of(text_of(results), "REP or HYBNEXT")
    assert row[2:4] == ["6.26, 5.30", "0.96"]
    assert row[-1] == "same"


def test_the_paper_s_figures_are_those_of_the_training_page() -> None:
    page = (STUDY.parents[1] / "docs" / "training.md").read_text()
    known = {cell.strip() for line in page.splitlines() for cell in line.split("|")}
    for row in questions.PAPER:
        if row.values is not None and row.measure == "fd":
            assert {f"{value:.2f}" for value in row.values} <= known, row


def test_what_the_setup_says_is_there(results: Path) -> None:
    text = text_of(results)
    assert rows_of(text, "collection `study`")[0][1] == "train 20,000, test 2,000, seed 11"
    assert rows_of(text, "teacher, cross-modal")[0][1] == "cls macro auroc 0.913"
    assert rows_of(text, "judge, on real test pictures")[0][1].startswith("Cardiomegaly 0.950 (")
    (results / "setup.json").unlink()
    assert rows_of(text_of(results), "image tokenizer")[0][1] == "not recorded"


def test_settings_tried_on_validation_are_shown(results: Path) -> None:
    measures = {"fd": {"value": 3.25, "low": None, "high": None}}
    candidate = {
        "arm": "none",
        "overrides": ["training.x=1"],
        "guidance": 2.0,
        "measures": measures,
    }
    about = {"size": "small", "seed": 100, "split": "validate"}
    (results / "choice.json").write_text(json.dumps({**about, "candidates": [candidate]}))
    row = next(line for line in text_of(results).splitlines() if "training.x=1" in line)
    assert row.startswith("| `none` | training.x=1 | 2.0 | 3.25 |")
    assert "the numbers do not compare" in text_of(results)
    made_with = load(results).of(("small", "none"))[0].record["made_with"]
    about["made_with"] = made_with
    (results / "choice.json").write_text(json.dumps({**about, "candidates": [candidate]}))
    assert "the numbers do not compare" not in text_of(results)


def test_every_measure_has_a_place_on_the_page() -> None:
    shown = {*figures.MAIN_MEASURES, *document.BESIDE}
    assert shown == set(document.MEASURES)


def test_every_row_of_a_table_has_as_many_cells(results: Path) -> None:
    for table in tables(text_of(results)):
        assert len({line.count("|") for line in table}) == 1, table[0]
        assert re.fullmatch(r"\|(---\|)+", table[1]), table[0]


def test_unlike_endings_are_said(results: Path) -> None:
    assert "end alike" not in text_of(results)
    path = save_run(results, "mse", 0)
    record = json.loads(path.read_text())
    record["points"].pop()
    path.write_text(json.dumps(record))
    assert "**Not all runs of size small end alike**" in text_of(results)
    assert "1 run after 512 samples" in text_of(results)


def test_other_results_do_not_overwrite_the_repository_s_page(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        document.main(["--results", str(results)])
    assert "--results needs --docs" in capsys.readouterr().err


def test_the_repository_s_page_and_figures_agree_with_its_results() -> None:
    assert document.main(["--check"]) == 0


def test_the_template_holds_no_result_of_its_own() -> None:
    """What is left without expressions, links and code holds no number but the paper's words."""
    text = (STUDY / document.TEMPLATE).read_text()
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)
    allowed = ["arXiv 2503.07334", "v4", "Chameleon 7B", "SHA-256", "excludes 0", "exclude 0",
               "layer 20", "31 beside", "(32 to 8)", "their 30", "to their 5"]  # fmt: skip
    for words in allowed:
        text = text.replace(words, "")
    assert re.findall(r"[^\n]*\d[^\n]*", text) == []


def test_anchors_and_pictures_of_the_page_exist(results: Path) -> None:
    text = text_of(results)
    anchors = set(re.findall(r'<a id="([^"]+)">', text))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == anchors
    drawn = figures.payloads(load(results))
    assert set(re.findall(r"\]\(study/([^)]+)\.svg\)", text)) == drawn.keys()


def test_films_are_shown_if_they_are_there(results: Path) -> None:
    study = load(results)
    assert "films.png" not in document.page(study, [], films=False)
    assert "(study/films.png)" in document.page(study, [], films=True)


def test_a_figure_s_bytes_follow_from_its_data_alone(results: Path, tmp_path: Path) -> None:
    payload = figures.payloads(load(results))["span"]

    def drawn(names: Sequence[str]) -> list[bytes]:
        for name in names:
            figures.draw(payload, tmp_path / name)
        return [(tmp_path / name).read_bytes() for name in names]

    one, two = drawn(["one.svg", "two.svg"])
    assert one == two
    assert figures.digest(payload).encode() in one
    assert b"dc:date" not in one
    assert drawn(["one.png"])[0].startswith(b"\x89PNG")


def test_a_seed_beyond_the_interval_is_drawn(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3, 9):
        save_run(results, "none", seed, shift=-0.01 * seed**2)
    save_run(results, "none", 9, shift=4.0)
    payload = figures.payloads(load(results))["span"]
    seen: list[Figure] = []
    monkeypatch.setattr(figures, "FigureCanvasSVG", seen.append)
    figures.draw(payload, tmp_path / "one.svg")
    panels = [panel for panel in payload["panels"] if panel["rows"]]
    for axes, panel in zip(seen[0].axes, panels, strict=True):
        low, high = axes.get_xlim()
        assert all(low <= seed <= high for row in panel["rows"] for seed in row["seeds"])
    fd = payload["panels"][0]["rows"][0]
    assert max(fd["seeds"]) > fd["high"]


def test_what_happens_inside_is_the_mean_over_seeds(results: Path) -> None:
    text = text_of(results).split('<a id="inside">')[1]
    row = next(row for row in rows_of(text, "small") if row[1] == "`hybnext`")
    # 256 codes a picture; λ 2 and gradients of 1, 2, 3 beside 4; cosines at the steps 1 and 16
    assert row[2:] == ["1.00", "16.00", "1.00", "1.00", "1.00", "0.06", "0.50", "0.03", "0.25"]
    plain = next(row for row in rows_of(text, "small") if row[1] == "`none`")
    assert plain[2:] == ["1.00", "16.00", *["–"] * 6, "0.25"]


def test_findings_are_told_one_by_one(results: Path) -> None:
    text = document.page(load(results), [], films=False)
    assert "| Cardiomegaly | 0.95 | 0.81 | 0.81 | – | – | 0.90 |" in text
    assert "| Fracture | – | 0.75 | 0.75 | 0.60 | 0.25 | – |" in text


def test_what_was_made_of_the_results_is_shown_while_they_are_the_same(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / document.READING
    path.write_text(f"<!-- about results {document.results_id(load(results))} -->\nIt helped.\n")
    assert run(results) == 0
    page = (results.parent / "docs" / "study.md").read_text()
    assert page.index("\nIt helped.\n") < page.index("## What was run")
    assert run(results, "--check") == 0
    save_run(results, "rep", 0, shift=1.0)
    capsys.readouterr()
    assert run(results) == 0
    assert "is not about these results" in capsys.readouterr().err
    assert "It helped." not in (results.parent / "docs" / "study.md").read_text()
