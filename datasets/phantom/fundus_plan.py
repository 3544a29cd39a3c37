"""What each fundus phantom shows, the keywords and description it gets, and its patient."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from arra_med.datasets.phantom.sampling import EvenlySpread, SplitFiller, generator
from arra_med.schema import Split

Eye = Literal["right", "left"]
Amount = Literal["few", "several", "many"]

FINDINGS = ("haemorrhages", "exudates", "drusen", "cupping")
_SHARE = 0.32
_BOTH_EYES = 0.4
_AMOUNTS: tuple[Amount, ...] = ("few", "several", "many")
_FOLDER: dict[Split, str] = {"train": "train_set", "validate": "val_set", "test": "test_set"}


@dataclass(frozen=True, kw_only=True)
class FundusSpec:
    """Everything a fundus picture and its description must agree on.

    Attributes:
        eye: a right eye has its disc on the right of the picture.
        haemorrhages: how many, or ``None``.
        exudates: how many, or ``None``.
        drusen: how many, or ``None``.
        cup_ratio: diameter of the cup over the disc's; from 0.6 on it is called cupping.
    """

    eye: Eye
    haemorrhages: Amount | None = None
    exudates: Amount | None = None
    drusen: Amount | None = None
    cup_ratio: float = 0.35

    @property
    def cupping(self) -> bool:
        """Whether the cup is enlarged."""
        return self.cup_ratio >= 0.6


@dataclass(frozen=True, kw_only=True)
class PlannedFundus:
    """One picture of a drawn collection."""

    index: int
    split: Split
    path: str
    spec: FundusSpec
    keywords: str
    description: str


def sample_fundus(rng: np.random.Generator, *, eye: Eye, findings: frozenset[str]) -> FundusSpec:
    """Draw amounts for the findings that shall be there."""

    def amount(name: str) -> Amount | None:
        return _AMOUNTS[int(rng.integers(3))] if name in findings else None

    return FundusSpec(
        eye=eye,
        haemorrhages=amount("haemorrhages"),
        exudates=amount("exudates"),
        drusen=amount("drusen"),
        cup_ratio=rng.uniform(0.68, 0.85) if "cupping" in findings else rng.uniform(0.25, 0.42),
    )


def describe(spec: FundusSpec, rng: np.random.Generator) -> tuple[str, str]:
    """Keywords and a clinical description in DeepEyeNet's style."""
    keywords: list[str] = []
    sentences: list[str] = []
    if spec.haemorrhages and spec.exudates:
        keywords.append("non-proliferative diabetic retinopathy (npdr)")
    if spec.haemorrhages:
        keywords.append("retinal hemorrhages")
        sentences.append(
            _pick(
                rng,
                f"{spec.haemorrhages} dot and blot hemorrhages",
                f"{spec.haemorrhages} scattered intraretinal hemorrhages",
            )
        )
    if spec.exudates:
        keywords.append("hard exudates")
        sentences.append(
            _pick(
                rng,
                f"{spec.exudates} hard exudates in the posterior pole",
                f"{spec.exudates} yellow hard exudates around the macula",
            )
        )
    if spec.drusen:
        keywords.append("drusen")
        sentences.append(
            _pick(rng, f"{spec.drusen} macular drusen", f"{spec.drusen} soft drusen at the macula")
        )
    if spec.cupping:
        keywords.append("optic disc cupping")
        sentences.append(
            _pick(
                rng,
                f"enlarged optic cup with a cup-to-disc ratio of {spec.cup_ratio:.1f}",
                f"glaucomatous cupping of the disc, cup-to-disc ratio {spec.cup_ratio:.1f}",
            )
        )
    if not sentences:
        keywords.append("normal fundus")
        sentences.append(
            _pick(
                rng,
                "normal optic disc, macula and vessels",
                "unremarkable fundus without hemorrhages, exudates or drusen",
            )
        )
    opening = _pick(rng, f"{spec.eye} eye with", f"the {spec.eye} fundus shows")
    listed = (
        sentences[0] if len(sentences) == 1 else f"{', '.join(sentences[:-1])} and {sentences[-1]}"
    )
    text = f"{opening} {listed}."
    return ", ".join(keywords), text[0].upper() + text[1:]


def plan_fundus(
    num_samples: int, *, seed: int, shares: tuple[float, float, float]
) -> list[PlannedFundus]:
    """Plan a collection of exactly ``num_samples`` pictures; both eyes of a patient stay together.

    Raises:
        RequestError: if there are too few pictures to give every split with a share a patient.
    """
    spread = EvenlySpread(seed, len(FINDINGS))
    splits = SplitFiller(shares)
    pictures: list[PlannedFundus] = []
    patient = 0
    while splits.total < num_samples:
        split = splits.next_split()
        rng = generator(seed, "fundus-patient", patient)
        eyes: tuple[Eye, ...] = ("right", "left") if rng.random() < _BOTH_EYES else ("right",)
        if len(eyes) == 1 and rng.random() < 0.5:
            eyes = ("left",)
        for number, eye in enumerate(eyes[: num_samples - splits.total]):
            index = 2 * patient + number
            draws = spread[index]
            findings = frozenset(
                n for n, draw in zip(FINDINGS, draws, strict=True) if draw < _SHARE
            )
            own = generator(seed, "fundus-spec", index)
            spec = sample_fundus(own, eye=eye, findings=findings)
            keywords, description = describe(spec, own)
            name = f"group{patient + 1}-{number + 1}.jpg"
            pictures.append(
                PlannedFundus(
                    index=index,
                    split=split,
                    path=f"eyenet0420/{_FOLDER[split]}/{name}",
                    spec=spec,
                    keywords=keywords,
                    description=description,
                )
            )
            splits.add(split, 1)
        patient += 1
    splits.check()
    return pictures


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[int(rng.integers(len(choices)))]
