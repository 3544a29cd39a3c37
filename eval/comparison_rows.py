"""What is compared of several generators: pictures, what they are held against, measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from arra_med.eval.comparison_statistics import Features, widened
from arra_med.eval.estimators import Statistic, difference
from arra_med.eval.feature_stats import Array
from arra_med.eval.intervals import ClusteredBootstrap, Interval


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """One generator's pictures and what was measured of them; N pictures, in any order.

    Attributes:
        name: of the generator.
        kind: ``run`` or ``plain folder``.
        model: what is known of the generator.
        keys: of the prompt of each picture.
        indices: of each picture among those of its prompt.
        features: extractor → ``(N, D)``.
        probabilities: judge → finding → ``(N,)``.
        text: encoder → ``(N,)`` fit of picture and prompt; higher is better.
        paired: ``(N,)`` MS-SSIM with the real picture of the prompt.
    """

    name: str
    kind: str
    model: Mapping[str, Any] | None
    keys: Sequence[str]
    indices: Sequence[int]
    features: Mapping[str, Features] = field(default_factory=dict)
    probabilities: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    text: Mapping[str, Array] = field(default_factory=dict)
    paired: Array | None = None

    def aligned(self, pictures: Sequence[tuple[str, int]]) -> "Measured":
        """The same of some of its pictures, in that order."""
        places = {pair: place for place, pair in enumerate(self.pictures)}
        rows = np.array([places[pair] for pair in pictures], dtype=np.int64)
        return replace(
            self,
            keys=[key for key, _ in pictures],
            indices=[index for _, index in pictures],
            features={name: values[rows] for name, values in self.features.items()},
            probabilities={
                judge: {finding: values[rows] for finding, values in findings.items()}
                for judge, findings in self.probabilities.items()
            },
            text={name: values[rows] for name, values in self.text.items()},
            paired=None if self.paired is None else self.paired[rows],
        )

    @property
    def pictures(self) -> list[tuple[str, int]]:
        """Key and index of each."""
        return list(zip(self.keys, self.indices, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    """What all generators are held against.

    Attributes:
        patients: key of a prompt → its patient.
        labels: key of a prompt → finding → 1, 0, -1 uncertain, ``None`` unknown.
        thresholds: judge → finding that is scored → threshold, ``None`` if it has none.
        real: extractor → ``(M, D)`` features of the real pictures.
        real_patients: whose each real picture is.
        ceiling: the judges' probabilities, and the encoders' fit, of the real picture of each
            prompt, in place of every picture that is compared.
        min_positives: a finding is compared if as many of the prompts that all generators have
            ask for it, and as many exclude it.
        against: network → why it is not independent; its values are shown and not tested.
        weak: judge → finding, or the judge for all of them → why it cannot decide; the same.
        copiers: generators that hand out training pictures; shown and not tested either.
    """

    patients: Mapping[str, str]
    labels: Mapping[str, Mapping[str, int | None]]
    thresholds: Mapping[str, Mapping[str, float | None]]
    real: Mapping[str, Features]
    real_patients: Sequence[str]
    ceiling: Measured
    min_positives: int
    against: Mapping[str, str] = field(default_factory=dict)
    weak: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    copiers: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One measure of all generators.

    Attributes:
        aim: ``higher`` or ``lower`` is better; ``None`` if neither is by itself.
        statistics: generator → its statistic; those that lack it are left out.
        bootstrap: resamples that it is evaluated on.
        factor: of its unit.
        network: that it was measured with.
        real: its statistic of the real pictures of the prompts, where there is one.
        weak: why it is shown and not tested, where its network is independent.
        note: on what was left out.
        contrasts: generator → ``(S,)``, see :func:`widened`.
    """

    measure: str
    subject: str | None
    aim: str | None
    statistics: Mapping[str, Statistic]
    bootstrap: ClusteredBootstrap
    factor: float = 1.0
    network: str = ""
    real: Statistic | None = None
    weak: str = ""
    note: str = ""
    contrasts: Mapping[str, Array] = field(default_factory=dict)

    def interval(self, name: str) -> Interval:
        """Of one generator's value."""
        found = self.bootstrap.interval(self.statistics[name])
        return widened(found, self.contrasts.get(name)).times(self.factor)

    def to_real(self, name: str) -> Interval | None:
        """Of one generator's value minus that of the real pictures, paired."""
        if self.real is None:
            return None
        gap = difference(self.statistics[name], self.real)
        return self.bootstrap.interval(gap).times(self.factor)

    def not_tested(self, shared: Shared) -> str:
        """Why its differences are not tested; empty if they are."""
        against = shared.against.get(self.network)
        return f"not independent ({against})" if against else self.weak

    def difference(self, first: str, second: str) -> Interval:
        """Of the first generator's value minus the second's, paired."""
        contrast = difference(self.statistics[first], self.statistics[second])
        halves = None
        if first in self.contrasts and second in self.contrasts:
            halves = self.contrasts[first] - self.contrasts[second]
        return widened(self.bootstrap.interval(contrast), halves).times(self.factor)
