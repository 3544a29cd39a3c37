import pytest

from arra_med.datasets.splits import check_shares, normalise_split, patient_split
from arra_med.errors import RequestError


def test_shares_are_met_and_a_patient_never_moves():
    shares = (0.7, 0.1, 0.2)
    found = [patient_split(f"patient {i}", shares, 3) for i in range(20_000)]
    assert found == [patient_split(f"patient {i}", shares, 3) for i in range(20_000)]
    for split, share in zip(("train", "validate", "test"), shares, strict=True):
        assert found.count(split) / 20_000 == pytest.approx(share, abs=0.012)  # > 3 sigma
    assert found != [patient_split(f"patient {i}", shares, 4) for i in range(20_000)]


def test_an_empty_share_is_never_used():
    assert {patient_split(str(i), (0.0, 1.0, 0.0), 0) for i in range(500)} == {"validate"}


def test_a_patient_whose_id_is_not_unicode_has_a_split():
    """As of a folder whose name holds bytes of another encoding; the split is of no use, but the
    row must live to be excluded, or hashed."""
    assert patient_split("M\udcfcller", (0.0, 0.0, 1.0), 0) == "test"


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.2, 0.2)])
def test_shares_are_checked(shares):
    with pytest.raises(RequestError, match="sum to 1"):
        check_shares(shares)


def test_spellings():
    assert [normalise_split(s) for s in ("train", "Valid ", "val", "TEST", "trian", "")] == [
        "train", "validate", "validate", "test", None, None,
    ]  # fmt: skip
