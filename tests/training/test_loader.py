"""Micro-batches: the same step for any division, and what happens when a file is damaged."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed

from arra_med.errors import WorkError
from arra_med.settings import Training
from arra_med.training.agreement import Agreement
from arra_med.training.loader import (
    Files,
    MicroBatches,
    TrainingSet,
    loader_rate,
    read_together,
    step_batches,
)
from tests.training.folders import make_examples


def make_samples(folder: Path, **changes) -> TrainingSet:
    training = Training(**{"batch_size": 12, "micro_batch_size": 3, "max_steps": 6, **changes})
    return TrainingSet(make_examples(folder, 30, 10), [1, 0.5], training, seed=0)


@pytest.mark.parametrize(("world_size", "micro"), [(1, 12), (1, 4), (2, 3), (3, 2), (2, 6)])
@pytest.mark.parametrize("bucket", [0, 1, 3])
def test_ranks_share_a_steps_samples(
    tmp_path: Path, world_size: int, micro: int, bucket: int
) -> None:
    samples = make_samples(tmp_path, micro_batch_size=micro, bucket_batches=bucket)
    for step in range(6):
        taken = []
        for rank in range(world_size):
            batches = MicroBatches(samples, rank=rank, world_size=world_size)
            for number in range(step * batches.rounds, (step + 1) * batches.rounds):
                rows = batches.draws(number)
                assert len(rows) == micro
                taken += [(row.source[0], row.sample[0], row.dropped[0]) for row in rows]
                weights = batches[number]["target_weights"]
                assert weights.sum().item() == pytest.approx(1)
        step_draws = samples.steps.step(step)
        assert sorted(taken) == sorted(zip(*step_draws, strict=True))


def test_resuming_continues_where_it_stopped_for_any_number_of_workers(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    batches = MicroBatches(samples, rank=1, world_size=2)

    def read(first: int, workers: int):
        return list(step_batches(batches, first, 6, workers=workers, pin_memory=False))

    whole = read(0, 0)
    assert len(whole) == 6 * 2
    for found, expected in ((read(0, 2), whole), (read(4, 1), whole[8:])):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_workers_share_the_mapped_files(tmp_path: Path) -> None:
    """A forked process reads the same mapping: its own memory holds no copy of the vectors."""
    samples = make_samples(tmp_path)
    cache = samples.sources[0].features
    vector = cache[samples.sources[0].keys[0]]
    assert not vector.flags.owndata
    assert not vector.flags.writeable

    def look(results) -> None:
        MicroBatches(samples, rank=0, world_size=1)[0]
        name = str(cache.folder / "part-00000.arrow")
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags")
        mapped = [line for block in blocks if name in block for line in block.splitlines()]
        results.put([line for line in mapped if line.startswith("Private_Dirty")])

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=look, args=(results,))
    process.start()
    lines = results.get(timeout=300)
    process.join()
    assert lines, "the file is not mapped"
    assert all(line.split()[1] == "0" for line in lines)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lost_file_is_named(tmp_path: Path, workers: int) -> None:
    samples = make_samples(tmp_path)
    batches = MicroBatches(samples, rank=0, world_size=1)
    turns = step_batches(batches, 0, 6, workers=workers, pin_memory=False)
    (samples.sources[1].features.folder / "part-00000.arrow").rename(tmp_path / "away")
    with pytest.raises(WorkError, match=r"prepared1/features/f does not.*missing.*part-00000"):
        list(turns)


def test_a_file_that_changes_size_is_noticed(tmp_path: Path) -> None:
    caches = make_samples(tmp_path).caches()
    files = Files(caches, every=0)
    files.check()
    with (caches[0].folder / "part-00000.arrow").open("ab") as file:
        file.write(b"more")
    with pytest.raises(OSError, match="changed its size"):
        files.check()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named(tmp_path: Path, workers: int) -> None:
    samples = make_samples(tmp_path)
    path = samples.sources[0].tokens.folder / "part-00000.arrow"
    content = bytearray(path.read_bytes())
    codes = samples.sources[0].tokens[samples.sources[0].keys[3]].tobytes()
    begin = content.index(codes)
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * len(codes))
    batches = MicroBatches(samples, rank=0, world_size=1)
    with pytest.raises(WorkError, match=r"prepared0/tokens/t does not.*changed.*part-00000"):
        list(step_batches(batches, 0, 6, workers=workers, pin_memory=False))


def _fail_on_one(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    agreement = Agreement()

    def read() -> int:
        if rank == 1:
            raise ValueError("codes must be in 0 … 9, got 65535")
        return 1

    try:
        read_together(lambda: rank, [], agreement)
        read_together(read, [], agreement)
    except WorkError as error:
        results.put((rank, str(error)))
    distributed.destroy_process_group()


def test_every_rank_says_what_one_could_not_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (str(tmp_path / "store"), results)
    ranks = [context.Process(target=_fail_on_one, args=(rank, *arguments)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    told = dict(results.get(timeout=300) for _ in ranks)
    for process in ranks:
        process.join()
    assert told[0] == told[1]
    assert "codes must be in 0 … 9" in told[0]


def test_the_loaders_rate_is_measured(tmp_path: Path) -> None:
    assert loader_rate(make_samples(tmp_path), workers=0, steps=3) > 0
