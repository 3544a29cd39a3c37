"""Blur is seen without a network, though encoders forgive it."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from arra_med.eval.detail import fine_detail
from arra_med.eval.summary import answers
from arra_med.images import encode_png
from tests.eval.conftest import build_results
from tests.eval.little import generation_rows, pictures_for, read, write_generated


def test_variance_of_the_laplacian_by_hand():
    """One bright pixel of value v: -4 v in the middle, v at its four neighbours, 0 elsewhere."""
    picture = np.zeros((9, 9, 1), np.uint8)
    picture[4, 4] = 10
    flat = np.full((9, 9, 1), 77, np.uint8)
    values = np.zeros(81)
    values[:5] = (-40, 10, 10, 10, 10)
    found = fine_detail([encode_png(picture), encode_png(flat)])
    np.testing.assert_allclose(found, [values.var(), 0])


def test_a_blurred_generator_is_called_blurred(little, run, tmp_path):
    rows = generation_rows(little, 1)
    blurred = {
        name: np.asarray(
            Image.fromarray(picture[..., 0]).filter(ImageFilter.GaussianBlur(1.2))
        )[..., None]
        for name, picture in pictures_for(little, rows).items()
    }  # fmt: skip
    write_generated(tmp_path / "generated", rows, blurred, images_per_prompt=1)
    results = read(run())
    assert results["similarity"]["detail_share"]["high"] < 0.2
    look = answers(results)
    [answer] = [one for one in look if one.question == "Do they look right?"]
    assert answer.verdict == "No"
    assert "blurred" in answer.headline


def test_an_honest_generator_is_as_sharp_as_the_real_pictures(generated, run):
    share = read(run())["similarity"]["detail_share"]
    assert share["low"] < 1.1
    assert share["high"] > 0.9


@pytest.mark.parametrize(("high", "verdict"), [(0.49, "No"), (0.51, "In part")])
def test_the_rule_at_its_edge(high, verdict):
    results = build_results()
    results["similarity"]["detail_share"] = {"value": 0.4, "low": 0.3, "high": high, "n": 600}
    [answer] = [one for one in answers(results) if one.question == "Do they look right?"]
    assert answer.verdict == verdict
