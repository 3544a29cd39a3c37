"""What the first page says of dishonest generators: one that copies, one that collapsed."""

import pytest

from arra_med.eval.report import write_report
from arra_med.eval.summary import answers
from arra_med.images import encode_png
from tests.eval.little import generation_rows, pictures_for, read, write_generated


def verdicts(results):
    return {answer.question: answer.verdict for answer in answers(results)}


@pytest.fixture
def rows(little):
    return generation_rows(little, 1)


def test_an_honest_generator_is_neither(little, run, tmp_path, rows):
    write_generated(tmp_path / "generated", rows, pictures_for(little, rows), images_per_prompt=1)
    results = read(run())
    assert results["memorisation"]["detects"]
    assert results["preflight"]["copies_of_training"]["num"] == 0
    assert "collapsed" not in verdicts(results)["Are they varied?"]
    assert not verdicts(results)["Could a patient be recognised?"].startswith("Yes")


def test_copies_of_training_pictures_are_caught(little, run, tmp_path, rows):
    keys = [row["key"] for row in little.rows("train")]
    pngs = little.images(keys)
    copies = {row["file"]: pngs[key] for row, key in zip(rows, keys, strict=False)}
    write_generated(tmp_path / "generated", rows, copies, images_per_prompt=1)
    folder = run()
    results = read(folder)
    assert results["memorisation"]["share"]["value"] == 1
    assert results["preflight"]["copies_of_training"]["num"] == len(rows)
    assert verdicts(results)["Could a patient be recognised?"].startswith("Yes")
    closest = [panel for panel in results["panels"] if panel["rule"] == "closest"]
    for panel in closest:
        assert (folder / panel["generated"]).read_bytes() == (folder / panel["real"]).read_bytes()
    assert "copies" in write_report(folder).read_text(encoding="utf-8").split("<main>")[1][:4000]


def test_a_collapsed_generator_is_called_collapsed(little, run, tmp_path, rows):
    one = encode_png(next(iter(pictures_for(little, rows).values())))
    write_generated(
        tmp_path / "generated", rows, dict.fromkeys((r["file"] for r in rows), one),
        images_per_prompt=1,
    )  # fmt: skip
    results = read(run())
    assert verdicts(results)["Are they varied?"] == "No, collapsed"
    [varied] = [answer for answer in answers(results) if answer.question == "Are they varied?"]
    assert "collapsed" in varied.headline
