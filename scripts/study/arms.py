"""What ``arms.yaml`` says: what the study compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arra_med import config

ARMS = Path(__file__).parent / "arms.yaml"


@dataclass(frozen=True, kw_only=True)
class Choose:
    """What is tried on validation.

    Attributes:
        size: of the models.
        arms: each is trained with each of ``training``.
        seed: of all of them.
        training: overrides, one a candidate.
        guidance: scales that each candidate draws with.
    """

    size: str
    arms: tuple[str, ...]
    seed: int
    training: tuple[str, ...]
    guidance: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """What ``run.py GROUP`` runs: every arm at every size, with every seed.

    Attributes:
        sizes: of the models.
        arms: what is varied.
        points: training steps after which pictures are drawn; ``None`` for the study's.
        seeds: of its runs; ``None`` for the study's.
    """

    sizes: tuple[str, ...]
    arms: tuple[str, ...]
    points: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Arms:
    """A whole ``arms.yaml``.

    Attributes:
        points: training steps after which pictures are drawn, ascending.
        sizes: name of a model size → overrides of the recipe.
        arms: name of what is varied → overrides; ``{prepared}`` in one is ``paths.prepared``.
        choose: what is tried on validation.
        seeds: of a group's runs, unless it names others.
        groups: by name.
        scale: what a trial in small adds to the commands of a verb, or to the scripts ``teacher``
            and ``text``.
    """

    points: tuple[int, ...]
    sizes: Mapping[str, tuple[str, ...]]
    arms: Mapping[str, tuple[str, ...]]
    choose: Choose
    seeds: tuple[int, ...]
    groups: Mapping[str, Group]
    scale: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_points(self.points, "points")
        _check_known(self.choose.arms, self.arms, "choose")
        _check_known([self.choose.size], self.sizes, "choose")
        for name, group in self.groups.items():
            where = f"groups.{name}"
            _check_known(group.sizes, self.sizes, where)
            _check_known(group.arms, self.arms, where)
            if group.points is not None:
                _check_points(group.points, f"{where}.points")
            if group.seeds is not None:
                _check_seeds(group.seeds, f"{where}.seeds")
        _check_seeds(self.seeds, "seeds")


def _check_known(names: Sequence[str], known: Mapping[str, object], where: str) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{where} names {', '.join(unknown)}; known: {', '.join(known)}")


def _check_points(points: Sequence[int], where: str) -> None:
    if not points or points[0] < 1 or list(points) != sorted(set(points)):
        raise ValueError(f"{where} must be ascending numbers of steps, at least one")


def _check_seeds(seeds: Sequence[int], where: str) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"{where} must be different numbers from 0 on, at least one")


def read_arms(path: Path = ARMS) -> Arms:
    """The arms in a file.

    Raises:
        FileNotFoundError: if there is none.
        RequestError: naming everything that is wrong in it.
    """
    return config.load(Arms, path)
