"""Which patients, studies and pictures a drawn chest collection has, and what each one shows.

Everything follows from the seed and an index, so that a picture does not depend on how many
others are drawn or in which order.
"""

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from arra_med.datasets.phantom.findings import (
    FINDINGS,
    RICH_FINDINGS,
    Anatomy,
    ChestSpec,
    View,
    sample_habitus,
    sample_spec,
)
from arra_med.datasets.phantom.reports import Report, write_report
from arra_med.datasets.phantom.rich_reports import write_rich_report
from arra_med.datasets.phantom.rich_spec import sample_rich_habitus, sample_rich_spec
from arra_med.datasets.phantom.sampling import EvenlySpread, SplitFiller, generator
from arra_med.schema import Split

_SHARES = (0.28, 0.25, 0.23, 0.29, 0.31, 0.25)
"""Share of studies for each of FINDINGS, before those that could not be seen are left out."""
_RICH_SHARES = (0.17, 0.17, 0.15, 0.18, 0.20, 0.17, 0.17, 0.22, 0.18, 0.22, 0.19, 0.19)
"""The same for each of RICH_FINDINGS, in those studies that are not to be normal."""
_RICH_NORMAL, _MOST_FINDINGS = 0.075, 5
_AP, _TWO_VIEWS, _TWO_STUDIES = 0.41, 0.176, 0.25
_FIRST_SUBJECT, _FIRST_STUDY = 10000032, 50000001
_EPOCH = datetime.date(2110, 1, 1)  # MIMIC's dates are moved into the 22nd century


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """One film of a study: its number in the study, its view and its id."""

    number: int
    view: View
    dicom_id: str


@dataclass(frozen=True, kw_only=True)
class PlannedStudy:
    """One examination.

    Attributes:
        seed: of the collection.
        index: of the study; with ``seed`` it decides everything drawn at random.
        subject_id: eight digits, as in MIMIC-CXR.
        study_id: eight digits, as in MIMIC-CXR.
        split: of the patient.
        spec: what it shows; each picture has its own view.
        pictures: in order.
        when: date and time of the examination.
        anatomy: how its pictures are drawn and what they may show.
    """

    seed: int
    index: int
    subject_id: str
    study_id: str
    split: Split
    spec: ChestSpec
    pictures: tuple[PlannedPicture, ...]
    when: datetime.datetime
    anatomy: Anatomy = "simple"

    @property
    def folder(self) -> str:
        """Path of the study's folder below the collection's root; the report is ``<it>.txt``."""
        return f"files/p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}"

    @cached_property
    def report(self) -> Report:
        """Its report with the labels it supports."""
        views = [picture.view for picture in self.pictures]
        write = write_rich_report if self.anatomy == "rich" else write_report
        return write(self.spec, views, self.generator("report"))

    def generator(self, purpose: str, number: int = 0) -> np.random.Generator:
        """A generator of its own for each purpose and picture."""
        return generator(self.seed, purpose, self.index, number)


def plan_studies(
    num_samples: int,
    *,
    seed: int,
    shares: tuple[float, float, float],
    anatomy: Anatomy = "simple",
) -> list[PlannedStudy]:
    """Plan a collection of exactly ``num_samples`` pictures.

    Patients go, whole, to the split that is furthest below its share.

    ``anatomy`` says how the pictures are to be drawn and which findings there are.

    Raises:
        RequestError: if there are too few pictures to give every split with a share a patient.
    """
    studies: list[PlannedStudy] = []
    dimensions = len(RICH_FINDINGS) + 2 if anatomy == "rich" else len(FINDINGS) + 1
    spread = EvenlySpread(seed, dimensions)
    splits = SplitFiller(shares)
    patient = 0
    while splits.total < num_samples:
        split = splits.next_split()
        for study in _patient_studies(seed, patient, split, spread, anatomy):
            kept = study.pictures[: num_samples - splits.total]
            if kept:
                studies.append(replace(study, pictures=kept))
                splits.add(split, len(kept))
        patient += 1
    splits.check()
    return studies


def _patient_studies(
    seed: int, patient: int, split: Split, spread: EvenlySpread, anatomy: Anatomy
) -> list[PlannedStudy]:
    rng = generator(seed, "patient", patient)
    habitus = sample_rich_habitus(rng) if anatomy == "rich" else sample_habitus(rng)
    num_studies = 2 if rng.random() < _TWO_STUDIES else 1
    # the first patient is MIMIC's own first; the others are spread over its ten group folders
    subject = _FIRST_SUBJECT + patient % 10 * 1_000_000 + patient
    day = _EPOCH + datetime.timedelta(days=int(rng.integers(0, 36_000)))
    studies = []
    for number in range(num_studies):
        index = 2 * patient + number
        *draws, film = spread[index]
        views: tuple[View, ...] = ("PA",)
        if film < _AP:
            views = ("AP",)
        elif film < _AP + _TWO_VIEWS:
            views = ("PA", "lateral")
        own = generator(seed, "spec", index)
        if anatomy == "rich":
            findings = _rich_findings(draws, own)
            spec = sample_rich_spec(own, findings=findings, view=views[0], habitus=habitus)
        else:
            findings = frozenset(
                n for n, d, p in zip(FINDINGS, draws, _SHARES, strict=True) if d < p
            )
            spec = sample_spec(own, findings=findings, view=views[0], habitus=habitus)
        time = datetime.time(
            int(own.integers(0, 24)), int(own.integers(0, 60)), int(own.integers(0, 60)),
            1000 * int(own.integers(0, 1000)),
        )  # fmt: skip
        studies.append(
            PlannedStudy(
                seed=seed,
                index=index,
                subject_id=str(subject),
                study_id=str(_FIRST_STUDY + index),
                split=split,
                spec=spec,
                pictures=tuple(
                    PlannedPicture(number=i, view=view, dicom_id=_dicom_id(seed, index, i))
                    for i, view in enumerate(views)
                ),
                when=datetime.datetime.combine(day, time),
                anatomy=anatomy,
            )
        )
        day += datetime.timedelta(days=int(own.integers(1, 400)))
    return studies


def _rich_findings(draws: Sequence[float], rng: np.random.Generator) -> frozenset[str]:
    """At most five, so that the impression stays short; none in a study that is to be normal."""
    *each, normal = draws
    if normal < _RICH_NORMAL:
        return frozenset()
    pairs = zip(RICH_FINDINGS, each, _RICH_SHARES, strict=True)
    chosen = [name for name, drawn, share in pairs if drawn < share]
    if len(chosen) > _MOST_FINDINGS:
        kept = rng.choice(len(chosen), _MOST_FINDINGS, replace=False)
        chosen = [chosen[i] for i in sorted(kept)]
    return frozenset(chosen)


def _dicom_id(seed: int, index: int, number: int) -> str:
    """Five groups of eight hex digits, as MIMIC-CXR names its files."""
    digits = hashlib.sha256(f"phantom-cxr {seed} {index} {number}".encode()).hexdigest()
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))
