"""Splits: the spellings archives use, and a patient-wise split of one's own."""

import hashlib
from collections.abc import Sequence

from arra_med.errors import RequestError
from arra_med.schema import SPLITS, Split

_SPELLINGS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validate": "validate",
    "validation": "validate",
    "valid": "validate",
    "val": "validate",
    "dev": "validate",
    "test": "test",
    "testing": "test",
}


def normalise_split(text: str) -> Split | None:
    """``train``, ``validate`` or ``test`` from an archive's spelling; ``None`` if it is neither."""
    return _SPELLINGS.get(text.strip().lower())


def check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return shares of train, validate and test that are not negative and sum to one.

    Raises:
        RequestError: otherwise.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise RequestError(
            f"split_shares {list(shares)} must be three numbers ≥ 0 (train, validate, test) "
            "that sum to 1"
        )
    return (shares[0], shares[1], shares[2])


def patient_split(patient_id: str, shares: Sequence[float], seed: int) -> Split:
    """The split of a patient, by a keyed hash of the id alone.

    Neither the order of the archive nor other patients matter: a picture that is added later
    never moves another patient to another split.
    """
    digest = hashlib.blake2b(
        patient_id.encode("utf-8", "surrogatepass"),  # a folder's name may be no Unicode
        digest_size=8,
        key=f"arra_med split {seed}".encode(),
    ).digest()
    place = int.from_bytes(digest, "big") / 2**64
    reached = 0.0
    for split, share in zip(SPLITS, shares, strict=True):
        reached += share
        if place < reached:
            return split
    return max(zip(shares, SPLITS, strict=True), key=lambda pair: pair[0])[1]
