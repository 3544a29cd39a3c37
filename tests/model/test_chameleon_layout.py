"""Image tokens of Chameleon-family vocabularies, read from names and from nothing else."""

import numpy as np
import pytest

from arra_med.errors import RequestError
from arra_med.model.chameleon_layout import chameleon_layout, image_token_ids
from tests.model.chameleon_files import Checkpoint, code_name, plain_config

SMALL = Checkpoint()
PUBLISHED = Checkpoint(published=True)


def layout(checkpoint: Checkpoint = SMALL, vocabulary=None, grid=(4, 6), with_rep=False):
    return chameleon_layout(
        checkpoint.vocabulary if vocabulary is None else vocabulary, plain_config(checkpoint),
        grid=grid, pad_id=1, with_rep=with_rep,
    )  # fmt: skip


def test_the_published_vocabulary_gives_the_published_ids() -> None:
    """METHOD.md: 8197 8820 8820, rows closed by 8803, 8196 8710; codes are 4 … 8195 by name."""
    found = layout(PUBLISHED, grid=(32, 32))
    codes = np.arange(1024) * 7
    ids = found.example([0, 20000, 20001], codes).ids.tolist()
    assert ids[:7] == [0, 20000, 20001, 8710, 8197, 8820, 8820]
    assert ids[-3:] == [8803, 8196, 8710]
    rows = np.array(ids[7:-2]).reshape(32, 33)
    assert (rows[:, 32] == 8803).all()
    by_name = [PUBLISHED.vocabulary[code_name(code)] for code in codes]
    assert rows[:, :32].reshape(-1).tolist() == by_name
    assert sorted(found.code_ids) == list(range(4, 8196))
    assert found.code_ids != tuple(range(4, 8196))  # their order is in the names alone


@pytest.mark.parametrize(("grid", "tokens"), [((48, 22), (8828, 8815)), ((2, 64), (8805, 8836))])
def test_every_size_has_its_tokens_height_first(grid, tokens) -> None:
    assert layout(PUBLISHED).with_grid(*grid).start_ids == (8197, *tokens)
    assert layout(PUBLISHED, grid=grid).start_ids == (8197, *tokens)


def test_other_ids_with_the_same_names_are_followed() -> None:
    ids = SMALL.vocabulary
    found = layout(with_rep=True)
    assert found.start_ids == (
        ids["<reserved08795>"], ids["<racm3:break>"], ids["<reserved08802>"], ids["<reserved08803>"]
    )  # fmt: skip
    assert found.rep_id == ids["<reserved08795>"]
    assert found.end_ids == (ids["<eoss>"], ids["<reserved08706>"])
    assert found.code_ids == tuple(ids[code_name(code)] for code in range(16))


@pytest.mark.parametrize("side", [3, 0, 64])
def test_sides_without_a_token_are_refused(side: int) -> None:
    with pytest.raises(RequestError, match=r"sides of 2 to 62 codes in steps of 2 \(32 px\)"):
        layout(grid=(4, side))


def test_an_image_longer_than_the_context_is_refused() -> None:
    short = Checkpoint(context=100)
    layout(short, grid=(8, 10))
    with pytest.raises(RequestError, match="takes 161 tokens, the model's context is 100"):
        layout(short, grid=(12, 12))


def test_gaps_doubles_and_odd_names_are_named() -> None:
    gap = {name: i for name, i in SMALL.vocabulary.items() if name != "IMGIMGBCZ"}
    with pytest.raises(RequestError, match=r"15 image codes, without code 12.*states 16 \(0 to 15"):
        layout(vocabulary=gap)
    with pytest.raises(RequestError, match="code 1 twice"):
        layout(vocabulary=SMALL.vocabulary | {"IMGIMGABZ": 3})
    with pytest.raises(RequestError, match="'IMGIMGKZ' does not name an image code"):
        layout(vocabulary=SMALL.vocabulary | {"IMGIMGKZ": 3})
    with pytest.raises(RequestError, match=r"give 17 image codes, but .* states 16"):
        layout(vocabulary=SMALL.vocabulary | {"IMGIMGBGZ": 3})
    with pytest.raises(RequestError, match="give 0 image codes, without code 0"):
        image_token_ids({"<s>": 0}, 16)


def test_missing_special_tokens_are_named() -> None:
    gone = ("<eoss>", "<reserved08799>", "<reserved08800>")
    vocabulary = {name: i for name, i in SMALL.vocabulary.items() if name not in gone}
    with pytest.raises(RequestError, match="but not <eoss>, <reserved08799>, <reserved08800>"):
        layout(vocabulary=vocabulary)


def test_tokens_beyond_the_weights_are_refused() -> None:
    far = SMALL.vocabulary | {"<eoss>": 1000}
    with pytest.raises(RequestError, match=r"has a token 1000 but .* ends at 4\d\d"):
        layout(vocabulary=far)
