"""Examples of a folder, and the batch that they become."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arra_med.errors import RequestError
from arra_med.model.layout import IGNORED
from tests.conftest import write_prepared
from tests.training.folders import LAYOUT, examples_of, save_caches


def test_an_example_predicts_the_image_part_and_nothing_else() -> None:
    example = LAYOUT.example([1, 5, 6], np.array([3, 0, 9, 1]))
    assert example.ids.tolist() == [1, 5, 6, 20, 25, 22, 31, 23, 21]
    assert example.targets.tolist() == [IGNORED] * 3 + [25, 22, 31, 23, 21, IGNORED]
    assert example.aligned.tolist() == [False] * 3 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("codes", [[1, 2, 3], [0, 0, 0, 10]])
def test_codes_that_do_not_fit_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="codes"):
        LAYOUT.example([1], np.array(codes))


def test_lengths_are_those_of_the_examples(tmp_path: Path) -> None:
    examples = examples_of(save_caches(write_prepared(tmp_path / "prepared", num=12, size=8)))
    assert examples.lengths().tolist() == [
        len(examples[i].example.ids) for i in range(len(examples))
    ]
    dropped = examples.item(0, dropped=True).example
    assert len(dropped.ids) == LAYOUT.sequence_length(0)
    assert np.array_equal(dropped.ids, examples[0].example.ids[-len(dropped.ids) :])


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = save_caches(write_prepared(tmp_path / "prepared", num=12, size=8))
    larger = replace(LAYOUT, grid=(3, 3))
    with pytest.raises(RequestError, match=r"prepared: its pictures.*4 codes.*9"):
        examples_of(folder, layout=larger)
