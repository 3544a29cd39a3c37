"""Order of the data: nothing lost, nothing repeated, whatever the number of ranks."""

import numpy as np
import pytest

from arra_med.model.layout import IGNORED, ImageLayout
from arra_med.training.data import RankShare

LAYOUT = ImageLayout(
    start_ids=(20,), end_ids=(21,), code_ids=tuple(range(22, 32)), grid=(2, 2), pad_id=0
)


def shares(world_size: int, micro: int, first: int = 0) -> list[list[list[int]]]:
    return [
        list(
            RankShare(
                batch_size=12,
                micro_batch_size=micro,
                rank=rank,
                world_size=world_size,
                first_step=first,
                last_step=4,
            )
        )
        for rank in range(world_size)
    ]


@pytest.mark.parametrize(("world_size", "micro"), [(1, 12), (1, 4), (2, 3), (3, 2), (2, 6)])
def test_every_step_takes_its_positions_once(world_size: int, micro: int) -> None:
    ranks = shares(world_size, micro)
    rounds = 12 // (micro * world_size)
    for step in range(4):
        taken = [
            position
            for rank in ranks
            for batch in rank[step * rounds : (step + 1) * rounds]
            for position in batch
        ]
        assert sorted(taken) == list(range(step * 12, (step + 1) * 12))


def test_resuming_continues_where_it_stopped() -> None:
    whole, rest = shares(2, 3), shares(2, 3, first=2)
    for rank in range(2):
        assert whole[rank][4:] == rest[rank]


def test_an_example_predicts_the_image_part_and_nothing_else() -> None:
    example = LAYOUT.example([1, 5, 6], np.array([3, 0, 9, 1]))
    assert example.ids.tolist() == [1, 5, 6, 20, 25, 22, 31, 23, 21]
    assert example.targets.tolist() == [IGNORED] * 3 + [25, 22, 31, 23, 21, IGNORED]
    assert example.aligned.tolist() == [False] * 3 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("codes", [[1, 2, 3], [0, 0, 0, 10]])
def test_codes_that_do_not_fit_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="codes"):
        LAYOUT.example([1], np.array(codes))
