"""``preflight``: are the picture files in order? Looked at before any network is loaded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from arra_med.eval.picture_facts import PictureFacts
from arra_med.store import PreparedFolder

LIMIT = 0.01
"""Share of a folder's pictures that a kind of problem may affect before it counts as one."""
MOST_NAMED = 20
TRAIN = "train"
COPIES = "equal to a training picture, pixel for pixel"
"""The problem of pictures that hand out what the generator learned from."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with some pictures of a folder.

    Attributes:
        count: pictures it affects.
        words: a sentence without its full stop.
        always: one picture is too many.
    """

    count: int
    words: str
    always: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderCheck:
    """One folder's pictures and what they must be.

    Attributes:
        name: of the folder in results: ``generated``, another generator, ``prepared``.
        facts: of its pictures.
        size: side in pixels that they must have, if one is required.
        channels: that they must have, if a number is required.
        splits: picture → split, of a prepared folder.
        training: digest → key of the training picture that it must not equal.
    """

    name: str
    facts: Sequence[PictureFacts]
    size: int | None = None
    channels: int | None = None
    splits: Mapping[str, str] | None = None
    training: Mapping[str, str] | None = None

    def copies(self) -> list[tuple[str, str]]:
        """Pictures that equal a training picture, with its key; constant ones say nothing."""
        training = self.training or {}
        return sorted(
            (one.name, training[one.digest])
            for one in self.facts
            if one.digest in training and not one.constant
        )

    @cached_property
    def equal(self) -> list[list[str]]:
        """Groups of pictures that are equal; those that stand in several splits come first."""
        groups: dict[str, list[str]] = {}
        for one in self.facts:
            if one.digest:
                groups.setdefault(one.digest, []).append(one.name)
        several = [group for group in groups.values() if len(group) > 1]
        return sorted(several, key=lambda group: (len(self._splits_of(group)) < 2, group))

    @property
    def leaking(self) -> list[list[str]]:
        """Groups of equal pictures that stand in several splits; constant ones say nothing."""
        constant = {one.name for one in self.facts if one.constant}
        several = [group for group in self.equal if len(self._splits_of(group)) > 1]
        return [group for group in several if group[0] not in constant]

    def _splits_of(self, group: Sequence[str]) -> set[str]:
        splits = self.splits or {}
        return {splits[name] for name in group if name in splits}

    def problems(self) -> list[Problem]:
        """Everything that is wrong, with counts."""
        read = [one for one in self.facts if not one.problem]
        grey = "8-bit grey" if self.channels == 1 else "8-bit RGB"
        splits = sorted({split for group in self.leaking for split in self._splits_of(group)})
        missing = len(set(self.splits or ()) - {one.name for one in self.facts})
        other_size = sum(one.size != (self.size, self.size) for one in read)
        other_mode = sum(one.channels != self.channels for one in read)
        found = [
            _problem(len(self.facts) - len(read), "unreadable"),
            _problem(sum(one.constant for one in self.facts), "of one value throughout"),
            _problem(other_size if self.size else 0, f"not of {self.size} × {self.size} px"),
            _problem(other_mode if self.channels else 0, f"not {grey}"),
            _problem(missing, "missing, though the table of samples names them", always=True),
            _problem(
                sum(len(group) - 1 for group in self.equal),
                "the same as another one, pixel for pixel",
            ),
            _problem(
                sum(map(len, self.leaking)),
                f"in several splits ({', '.join(splits)}), pixel for pixel",
                always=True,
            ),
            _problem(len(self.copies()), COPIES, always=True),
        ]
        return [problem for problem in found if problem.count]

    def failures(self, limit: float = LIMIT) -> list[Problem]:
        """Problems that affect more than ``limit`` (a share) of the pictures."""
        most = limit * len(self.facts)
        return [one for one in self.problems() if one.always or one.count > most]

    def to_json(self) -> dict[str, Any]:
        """The folder's entry in the results file's section ``preflight``."""
        unreadable = [one for one in self.facts if one.problem]
        constant = [one.name for one in self.facts if one.constant]
        read = [one for one in self.facts if one.size is not None]
        sizes = Counter(f"{one.size[0]} × {one.size[1]}" for one in read if one.size)
        return {
            "name": self.name,
            "pictures": len(self.facts),
            "unreadable": [
                {"file": one.name, "reason": one.problem} for one in unreadable[:MOST_NAMED]
            ],
            "num_unreadable": len(unreadable),
            "sizes": dict(sorted(sizes.items())),
            "modes": dict(sorted(Counter(one.mode for one in read).items())),
            "num_constant": len(constant),
            "constant": constant[:MOST_NAMED],
            "num_duplicates": len(self.equal),
            "duplicates": [group[:MOST_NAMED] for group in self.equal[:MOST_NAMED]],
            "problems": [problem.words for problem in self.problems()],
        }


def check_prepared(
    prepared: PreparedFolder, facts: Sequence[PictureFacts], *, name: str = "prepared"
) -> FolderCheck:
    """A prepared folder must hold pictures of one kind, none of them in two splits."""
    splits = dict(zip(prepared.keys, prepared.samples["split"].to_pylist(), strict=True))
    return FolderCheck(
        name=name, facts=facts, size=prepared.image_size, channels=prepared.channels, splits=splits
    )


def check_offered(
    name: str,
    facts: Sequence[PictureFacts],
    prepared: PreparedFolder | None,
    real: Sequence[PictureFacts] | None,
    *,
    any_kind: bool = False,
) -> FolderCheck:
    """Pictures of a generator must be like the real ones, and none equal to a training picture.

    Args:
        name: of the generator.
        facts: of its pictures.
        prepared: the real ones, if they are known.
        real: facts of ``prepared``, if its pictures were looked at.
        any_kind: any size and mode will do, because pictures are brought to the real ones'.
    """
    training = None
    if prepared is not None and real is not None:
        splits = zip(prepared.keys, prepared.samples["split"].to_pylist(), strict=True)
        train = {key for key, split in splits if split == TRAIN}
        training = {one.digest: one.name for one in reversed(real) if one.digest and
                    one.name in train}  # fmt: skip
    fixed = prepared is not None and not any_kind
    return FolderCheck(
        name=name,
        facts=facts,
        size=prepared.image_size if prepared is not None and fixed else None,
        channels=prepared.channels if prepared is not None and fixed else None,
        training=training,
    )


def preflight_section(checks: Sequence[FolderCheck]) -> dict[str, Any]:
    """The results file's section ``preflight``.

    Args:
        checks: the run's own pictures first; copies of training pictures are told of these.
    """
    section: dict[str, Any] = {
        "folders": [check.to_json() for check in checks],
        "copies_of_training": None,
    }
    if not checks or checks[0].training is None:
        note = "the training pictures were not looked at"
        return section | {"copies_of_training_note": note}
    pairs = checks[0].copies()
    named = [list(pair) for pair in pairs[:MOST_NAMED]]
    return section | {"copies_of_training": {"num": len(pairs), "pairs": named}}


def _problem(count: int, words: str, *, always: bool = False) -> Problem:
    said = f"{count:,} pictures are" if count != 1 else "1 picture is"
    return Problem(count=count, words=f"{said} {words}", always=always)
