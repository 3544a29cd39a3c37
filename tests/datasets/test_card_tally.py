import tracemalloc

import numpy as np

from arra_med.datasets.card.tally import Tally, hash_texts


def test_tally_against_a_plain_count():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 500, 3000).astype(np.uint64)
    bits = (1 << rng.integers(0, 3, 3000)).astype(np.uint8)
    tally = Tally()
    for start in range(0, 3000, 77):
        tally.add(keys[start : start + 77], bits[start : start + 77])
        if start % 5 == 0:
            _ = tally.keys  # merges early
    expected = {}
    for key, bit in zip(keys.tolist(), bits.tolist(), strict=True):
        count, union = expected.get(key, (0, 0))
        expected[key] = (count + 1, union | bit)
    assert tally.keys.tolist() == sorted(expected)
    found = zip(tally.counts.tolist(), tally.bits.tolist(), strict=True)
    assert list(found) == [expected[key] for key in sorted(expected)]
    assert tally.num_repeated == sum(n for n, _ in expected.values() if n > 1)
    assert tally.num_with(4) == sum(bool(union & 4) for _, union in expected.values())


def test_memory_is_a_few_bytes_a_patient():
    def chunk(start):
        ids = np.arange(start, start + 4096)
        return hash_texts(map(str, ids)), np.ones(4096, np.uint8)

    def held(num_chunks):
        tracemalloc.start()
        tally = Tally()
        for index in range(num_chunks):
            tally.add(*chunk(index * 4096))
        assert len(tally.keys) == num_chunks * 4096
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    assert (held(48) - held(16)) / (32 * 4096) < 14
