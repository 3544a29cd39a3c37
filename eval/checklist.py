"""Where the report answers what reporting guidelines for such studies ask, in our own words.

The guidelines: CLAIM (checklist for artificial intelligence in medical imaging), MI-CLAIM-GEN (the
minimum information on generative clinical AI) and the seven criteria of FDA's CDRH for synthetic
medical data. Questions are shortened and joined; the documents themselves are longer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.eval.explanations import primary_judge
from arra_med.eval.formatting import listed
from arra_med.eval.summary_evidence import Results, usable_judges

CLAIM, GEN, SEVEN = "CLAIM", "MI-CLAIM-GEN", "FDA/CDRH 7 Cs"


@dataclass(frozen=True, kw_only=True)
class ChecklistItem:
    """One question of a guideline.

    Attributes:
        source: which guidelines ask it.
        item: the question, as a noun.
        covered: whether the report answers it.
        where: in the report, or why it is not covered.
        anchor: ``id`` of the page's section that answers it, if one does.
    """

    source: str
    item: str
    covered: bool
    where: str
    anchor: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """``here`` says whether the results hold it; ``reason`` why not, if they do not."""

    source: tuple[str, ...]
    item: str
    where: str = ""
    anchor: str | None = None
    here: Callable[[Results], bool] = lambda results: True
    reason: str = "the results do not hold it"


def checklist(results: Results) -> list[ChecklistItem]:
    """All questions with the place of the answer, or the reason why there is none."""
    items = []
    for entry in _ENTRIES:
        covered = bool(entry.where) and entry.here(results)
        items.append(
            ChecklistItem(
                source=listed(entry.source),
                item=entry.item,
                covered=covered,
                where=entry.where if covered else f"Not covered because {entry.reason}.",
                anchor=entry.anchor if covered else None,
            )
        )
    return items


def _has(*names: str) -> Callable[[Results], bool]:
    """Whether some value lies at the path ``names``."""

    def here(results: Results) -> bool:
        value: Any = results
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return bool(value)

    return here


def _independent_evidence(results: Results) -> bool:
    rows = results.get("fidelity") or []
    return bool(usable_judges(results)) and any(row.get("independent") for row in rows)


def _has_threshold(results: Results) -> bool:
    return bool((primary_judge(results) or {}).get("threshold_rule"))


_ENTRIES = (
    _Entry(
        source=(CLAIM, GEN),
        item="Purpose, and what the system is not for",
        where="Opening: research use only, not for diagnosis",
        anchor="summary",
    ),
    _Entry(
        source=(CLAIM,),
        item="Goals stated before the data were seen",
        where="Were the goals reached?",
        anchor="summary",
        here=_has("goals"),
        reason="no goals were set beforehand",
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Source of the real images; patients and images included and left out",
        where="Flow from all samples to the pictures evaluated",
        anchor="cohort",
        here=_has("cohort", "flow"),
    ),
    _Entry(
        source=(CLAIM,),
        item="Ethics approval and consent",
        reason="they belong to the data set, whose owner's documents hold them",
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Parts for training, choosing and testing, apart by patient",
        where="The split in the opening, its hash in the protocol",
        anchor="protocol",
        here=lambda results: not results.get("model_note"),
        reason="the generator was trained on another prepared folder, with parts of its own",
    ),
    _Entry(
        source=(CLAIM,),
        item="Reference standard: where labels come from, what uncertain ones count",
        where="Who and what was compared: labels of the data set, or read from the prompt's text; "
        "protocol, uncertain labels",
        anchor="cohort",
        here=_has("cohort", "labels_from"),
    ),
    _Entry(
        source=(CLAIM,),
        item="How good labels read from text are",
        where="Agreement of the labeller with the data set's labels",
        anchor="cohort",
        here=_has("labels", "findings"),
        reason="there were no labels of both kinds to compare",
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="The model: kind, size, training and weights",
        where="The generator, as its folder describes it",
        anchor="method",
        here=_has("model"),
        reason="the generated folder says nothing about it",
    ),
    _Entry(
        source=(CLAIM,),
        item="Handling of pictures before measurement",
        where="Preprocessing of every network, beside its results and in the protocol",
        anchor="protocol",
        here=_has("protocol"),
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Measures, with intervals and tests, and how several tests were allowed for",
        where="Protocol; every table prints intervals beside its values",
        anchor="protocol",
        here=_has("protocol"),
    ),
    _Entry(
        source=(CLAIM,),
        item="Thresholds fixed on other data than those tested",
        where="Findings: rule and value of each threshold",
        anchor="findings",
        here=_has_threshold,
        reason="no judge read the pictures",
    ),
    _Entry(
        source=(CLAIM,),
        item="Sample size: whether there were enough cases",
        where="Number beside every value; findings with too few are not scored",
        anchor="findings",
        here=_has("judges"),
        reason="no judge read the pictures; the numbers were not planned beforehand",
    ),
    _Entry(
        source=(CLAIM,),
        item="Failures, shown as examples",
        where="Where does it fail?, and the pictures chosen as worst by rule",
        anchor="pictures",
        here=_has("panels"),
        reason="no pictures were kept beside the results",
    ),
    _Entry(
        source=(CLAIM,),
        item="Testing on data of another hospital",
        reason="one prepared folder is evaluated at a time",
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Comparison with other models",
        where="Comparison of generators on the same prompts",
        anchor="comparison",
        here=_has("comparison"),
        reason="no other generator's pictures were given",
    ),
    _Entry(
        source=(GEN,),
        item="Judgement by human experts",
        reason="no reader has checked these images",
    ),
    _Entry(
        source=(GEN,),
        item="Evaluation by models that took no part in training",
        where="Independence is stated for every judge and encoder",
        anchor="method",
        here=_independent_evidence,
        reason="no usable judge, or no encoder, is independent of training",
    ),
    _Entry(
        source=(GEN, SEVEN),
        item="Compliance and confidentiality: memorised training images",
        where="Could a patient be recognised?",
        anchor="privacy",
        here=_has("memorisation"),
        reason="training pictures were not searched",
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Age, sex and origin of the patients; differences between them",
        reason="the samples carry no age, sex or origin; only views and findings are broken down",
    ),
    _Entry(
        source=(SEVEN,),
        item="Congruence: are they like real images as a set",
        where="Fidelity, each value beside real against real",
        anchor="fidelity",
        here=_has("fidelity"),
        reason="no encoder compared the sets",
    ),
    _Entry(
        source=(SEVEN,),
        item="Coverage: is the variety of real images there",
        where="Are they varied?, recall and coverage",
        anchor="fidelity",
        here=_has("fidelity"),
        reason="no encoder compared the sets",
    ),
    _Entry(
        source=(SEVEN,),
        item="Constraint: do they keep to what was asked and to anatomy",
        where="Findings, view and side as asked; anatomy beyond these is not measured",
        anchor="findings",
        here=_has("judges"),
        reason="no judge read the pictures",
    ),
    _Entry(
        source=(SEVEN,),
        item="Completeness: are all details a task needs there",
        reason="no downstream task was tried with these pictures",
    ),
    _Entry(
        source=(SEVEN,),
        item="Comprehension: can a reader tell how the pictures were made and measured",
        where="In words, Method and Glossary",
        anchor="method",
    ),
    _Entry(
        source=(SEVEN,),
        item="Consistency: repeated runs, and the pictures of one prompt",
        where="Seeds, hashes and versions in the protocol; likeness of pictures of one prompt",
        anchor="protocol",
        here=_has("protocol"),
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Code, versions and data needed to repeat it",
        where="Protocol: versions, seeds, hashes of weights and folders",
        anchor="protocol",
        here=_has("protocol", "versions"),
    ),
    _Entry(
        source=(CLAIM, GEN),
        item="Limits of the study",
        where="What this result is worth, and Not checked, and why",
        anchor="open",
    ),
)
