"""What is measured on a run's pictures, by the names of the raw files."""

from dataclasses import dataclass
from typing import Literal

Aim = Literal["lower", "higher"] | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something measured on a run's pictures.

    Attributes:
        key: in the raw files; ``cross_entropy`` stands for a point's validation cross-entropy.
        label: in tables and figures.
        aim: which direction is better; ``None`` if neither is by itself.
        most: the largest value there is; ``None`` without one.
    """

    key: str
    label: str
    aim: Aim
    most: float | None = None

    @property
    def title(self) -> str:
        """The label, and which way is better."""
        return self.label + {"lower": " ↓", "higher": " ↑", None: ""}[self.aim]


MEASURES = {
    measure.key: measure
    for measure in (
        Measure(key="fd", label="FD", aim="lower"),
        Measure(key="fd_infinity", label="FD∞", aim="lower"),
        Measure(key="fd_unlabelled", label="FD, second extractor", aim="lower"),
        Measure(key="kid", label="KID", aim="lower"),
        Measure(key="auroc", label="judge's AUROC", aim="higher", most=1),
        Measure(key="missed_per_100", label="missed findings per 100", aim="lower"),
        Measure(key="invented_per_100", label="invented findings per 100", aim="lower"),
        Measure(key="precision", label="precision", aim="higher", most=1),
        Measure(key="recall", label="recall", aim="higher", most=1),
        Measure(key="density", label="density", aim="higher"),
        Measure(key="coverage", label="coverage", aim="higher", most=1),
        Measure(key="text_alignment", label="text alignment", aim="higher"),
        Measure(key="side_agreement", label="side agreement", aim="higher", most=1),
        Measure(key="view_agreement", label="view agreement", aim="higher", most=1),
        Measure(key="fine_detail", label="fine detail", aim=None),  # more than real is no better
        Measure(key="diversity", label="MS-SSIM between pictures", aim=None),
        # 1 % of held-out films are as near in each space: some matches are expected by chance
        Measure(key="copies", label="films nearer to a training film than most", aim=None),
        Measure(key="cross_entropy", label="validation cross-entropy", aim="lower"),
    )
}
