"""What the parts of one evaluation share: pictures, generators, networks, streams of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.cohort import Cohort, Drawn
from arra_med.eval.estimators import Array
from arra_med.eval.evaluator import Evaluator, EvaluatorInfo
from arra_med.eval.independence import objections, trained_elsewhere
from arra_med.eval.inference import FolderPictures, PictureSource, predict
from arra_med.eval.measures import Resampling
from arra_med.eval.real_pictures import RealPictures, code_of
from arra_med.eval.similarity import paired
from arra_med.settings import Evaluation
from arra_med.settings.results import THIS_RUN
from arra_med.store import PreparedFolder


@dataclass(frozen=True, kw_only=True)
class SwappedPictures:
    """Pictures drawn with ``generation.swap_sides``.

    Attributes:
        rows: of ``generations.parquet``, those with a counterpart that could be read.
        pngs: PNG bytes of each, brought to the real pictures' size and channels if need be.
        unreadable: number of those with a counterpart that could not.
    """

    rows: Sequence[Mapping[str, Any]]
    pngs: Sequence[bytes]
    unreadable: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another generator's pictures.

    Attributes:
        kind: ``run`` or ``plain folder``.
        model: what is known of the generator.
        drawn: its pictures, of the same split.
    """

    kind: str
    model: Mapping[str, Any]
    drawn: Drawn


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One evaluation.

    Attributes:
        options: the settings.
        prepared: the real pictures.
        known: what earlier evaluations learned of them.
        cohort: what is evaluated.
        peers: name → another generator's pictures of the same split.
        swapped: pictures of the cohort's prompts with left and right exchanged, if there are any.
        model: what the generated folder says of its generator.
        seed: of all draws.
        device: where networks run and distances are computed.
    """

    options: Evaluation
    prepared: PreparedFolder
    known: RealPictures
    cohort: Cohort
    peers: Mapping[str, Peer]
    swapped: SwappedPictures | None
    model: Mapping[str, Any]
    seed: int
    device: torch.device

    @property
    def generators(self) -> dict[str, Drawn]:
        """Name → pictures, the run's own first."""
        return {THIS_RUN: self.cohort, **{name: peer.drawn for name, peer in self.peers.items()}}

    @cached_property
    def trained_elsewhere(self) -> dict[str, str]:
        """Name → sentence, of the generators that were trained on other prepared folders."""
        models = {THIS_RUN: self.model, **{name: peer.model for name, peer in self.peers.items()}}
        found = {
            name: trained_elsewhere(
                model,
                self.prepared.content_hash,
                generator="The generator" if name == THIS_RUN else name,
                split=self.cohort.split,
            )
            for name, model in models.items()
        }
        return {name: words for name, words in found.items() if words is not None}

    def generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that adding one does not disturb another."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    @cached_property
    def resampling(self) -> Resampling:
        """The resamples behind every interval over patients."""
        return Resampling.of(self.cohort, self.options.bootstrap, self.generator("bootstrap"))

    def likeness(self, drawn: Drawn) -> Array:
        """``(N,)`` MS-SSIM of each picture with the real one of its prompt."""
        real = [self.cohort.real[key] for key in drawn.keys]
        return paired(drawn.pictures, real, batch_size=self.options.batch_size, device=self.device)

    @cached_property
    def own_likeness(self) -> Array:
        """:meth:`likeness` of the cohort's pictures."""
        return self.likeness(self.cohort)

    def objections(self, identity: Mapping[str, Any], info: EvaluatorInfo) -> list[str]:
        """Why a network is not independent of this run."""
        return self._objections(identity, info, "the run", self.model)

    def peer_objections(self, identity: Mapping[str, Any], info: EvaluatorInfo) -> list[str]:
        """Why it is not independent of one of the other generators, whichever that is."""
        found = (
            self._objections(identity, info, name, peer.model) for name, peer in self.peers.items()
        )
        return list(dict.fromkeys(reason for reasons in found for reason in reasons))

    def _objections(
        self,
        identity: Mapping[str, Any],
        info: EvaluatorInfo,
        generator: str,
        model: Mapping[str, Any],
    ) -> list[str]:
        found = objections(
            identity,
            called=info.name,
            saw=info.saw,
            teacher=model.get("teacher"),
            generator=generator,
            dataset=self.cohort.dataset,
            split=self.cohort.split,
        )
        if "teacher" not in model:
            found.append(
                f"{generator} does not say whether it was aligned to a teacher, perhaps to this "
                "network (if it was to none, set no_teacher)"
            )
        return found

    def predict(
        self, evaluator: Evaluator, pictures: PictureSource, what: str
    ) -> NDArray[np.float32]:
        """``(N, D)`` outputs of a network for some pictures."""
        return predict(
            evaluator.to(self.device).eval(),
            pictures,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            device=self.device,
            what=what,
        )

    def predict_real(
        self, evaluator: Evaluator, identity: Mapping[str, Any], keys: Sequence[str], what: str
    ) -> NDArray[np.float32]:
        """``(N, D)`` outputs of a network for real pictures; those once computed are kept.

        Args:
            evaluator: the network.
            identity: from :func:`~arra_med.eval.independence.ready_identity`.
            keys: of the pictures, N.
            what: name for the progress bar and in errors.
        """
        device = self.device.type
        if device == "cuda":
            device = torch.cuda.get_device_name(self.device)
        source = {
            "kind": type(evaluator).__qualname__,  # judge and extractor may share their weights
            "identity": identity,
            "code": code_of(evaluator),
            "batch_size": self.options.batch_size,
            "device": device,
        }
        in_memory = self.cohort.real
        pictures: PictureSource = FolderPictures(self.prepared, keys)
        if all(key in in_memory for key in keys):
            pictures = [in_memory[key] for key in keys]
        return self.known.outputs(source, keys, lambda: self.predict(evaluator, pictures, what))


def described(info: EvaluatorInfo, against: list[str]) -> dict[str, Any]:
    """What the results file says of a network, whatever it measures."""
    return {
        "trained_on": info.trained_on,
        "saw": list(info.saw),
        "preprocessing": info.preprocessing,
        "independent": not against,
        "not_independent_because": against,
    }
