"""Where image codes stand, checked by hand on a layout with every kind of token."""

import numpy as np
import pytest

from arra_med.errors import RequestError
from arra_med.model.layout import IGNORED, ImageLayout

PLAIN = ImageLayout(
    start_ids=(20,), end_ids=(21,), code_ids=tuple(range(22, 32)), grid=(2, 3), pad_id=0
)
FULL = ImageLayout(
    start_ids=(90, 41, 42),
    end_ids=(91, 92),
    code_ids=(7, 5, 6, 12),
    grid=(2, 4),
    pad_id=0,
    prompt_end_ids=(93,),
    row_end_ids=(94,),
    size_ids=(40, 41, 42, 43),
    size_unit=2,
)
CODES = np.array([0, 1, 2, 3, 3, 2, 1, 0])
_ = IGNORED


def test_a_sequence_with_row_ends_sizes_and_scattered_codes() -> None:
    example = FULL.example([1, 2], CODES)
    assert example.ids.tolist() == [
        1, 2, 93, 90, 41, 42, 7, 5, 6, 12, 94, 12, 6, 5, 7, 94, 91, 92,
    ]  # fmt: skip
    assert example.targets.tolist() == [
        _, _, _, _, _, 7, 5, 6, 12, 94, 12, 6, 5, 7, 94, 91, 92, _,
    ]  # fmt: skip
    predicts_a_code = [5, 6, 7, 8, 10, 11, 12, 13]
    assert example.aligned.nonzero()[0].tolist() == predicts_a_code


def test_without_a_prompt_nothing_is_closed() -> None:
    assert FULL.example([], CODES).ids.tolist()[:4] == [90, 41, 42, 7]
    assert FULL.prompt([]) == [90, 41, 42]
    assert FULL.prompt([1]) == [1, 93, 90, 41, 42]


def test_rep_is_found_behind_a_prompt_and_its_end() -> None:
    layout = ImageLayout(
        start_ids=(19, 20), end_ids=(21,), code_ids=(5, 6), grid=(1, 1), pad_id=0, rep_id=19,
        prompt_end_ids=(93,),
    )  # fmt: skip
    for prompt, place in (([1, 2], 3), ([], 0)):
        example = layout.example(prompt, np.array([1]))
        assert example.aligned.nonzero()[0].tolist() == [place]
        assert example.ids[place] == 19


@pytest.mark.parametrize("layout", [PLAIN, FULL])
def test_json_keeps_everything(layout: ImageLayout) -> None:
    assert ImageLayout.from_json(layout.to_json()) == layout
    assert len(str(layout.to_json())) < 400  # runs of codes are not listed one by one


def test_other_sizes_where_the_vocabulary_names_them() -> None:
    wide = FULL.with_grid(2, 6)
    assert wide.start_ids == (90, 41, 43)
    assert wide.codes_per_image == 12
    assert wide.example([1], np.zeros(12, np.int64)).ids[2:5].tolist() == [90, 41, 43]
    assert FULL.with_grid(2, 4) is FULL
    for rows, columns in ((3, 2), (2, 8), (0, 2)):
        with pytest.raises(RequestError, match="names sides of 2 to 6 codes in steps of 2"):
            FULL.with_grid(rows, columns)
    with pytest.raises(RequestError, match="no tokens that name an image's size"):
        PLAIN.with_grid(2, 2)


def test_wrong_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 6 codes"):
        PLAIN.image_part(np.zeros(5, np.int64))
    with pytest.raises(ValueError, match=r"0 … 9"):
        PLAIN.image_part(np.full(6, 10))


def test_lengths_are_those_of_real_sequences() -> None:
    for prompt in ([], [1], [1, 2, 3]):
        assert FULL.sequence_length(len(prompt)) == len(FULL.example(prompt, CODES).ids)
    assert (PLAIN.image_length, FULL.image_length) == (7, 12)


def test_the_vocabulary_must_hold_the_largest_token() -> None:
    assert (PLAIN.vocabulary_end, FULL.vocabulary_end) == (32, 95)
