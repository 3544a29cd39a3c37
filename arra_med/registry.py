"""Plug-ins by name: a lazy table of ``name -> "module:attribute"``.

Built-in plug-ins are listed here; third parties add theirs through entry points, without touching
this package. Nothing is imported before it is asked for.
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from arra_med.errors import RequestError, did_you_mean


class Registry:
    """Names of one kind of plug-in.

    Args:
        kind: what the plug-ins are, for messages (``"teacher"``).
        base: ``"module:Class"`` that every plug-in must derive from.
        builtin: name → ``"module:attribute"``.
        group: entry-point group in which third parties announce theirs.
    """

    def __init__(self, kind: str, *, base: str, builtin: Mapping[str, str], group: str) -> None:
        self.kind = kind
        self.group = group
        self._base = base
        self._targets = dict(builtin)
        self._third_party_read = False

    def register(self, name: str, target: str) -> None:
        """Add a plug-in.

        Raises:
            ValueError: if the name is taken by another target.
        """
        if self._targets.get(name, target) != target:
            raise ValueError(
                f"two {self.kind}s are called {name!r}: {self._targets[name]} and {target}"
            )
        self._targets[name] = target

    def names(self) -> list[str]:
        """Every known name, sorted; reads the entry points on first use."""
        if not self._third_party_read:
            for entry in entry_points(group=self.group):
                self.register(entry.name, entry.value)
            self._third_party_read = True
        return sorted(self._targets)

    def get(self, name: str) -> Any:  # noqa: ANN401 - a class; which one is the caller's knowledge
        """Import and return the plug-in class called ``name``.

        Raises:
            RequestError: if no plug-in has that name (the nearest one is suggested), or its module
                cannot be imported.
            TypeError: if it does not derive from the kind's base class.
        """
        names = self.names()
        if name not in self._targets:
            nearest = did_you_mean(name, names) or "."
            raise RequestError(
                f"no {self.kind} is called {name!r}{nearest} Known: {', '.join(names)}."
            )
        plugin = _import(self._targets[name], f"{self.kind} {name!r}")
        base = _import(self._base, f"the base of every {self.kind}")
        if not (isinstance(plugin, type) and issubclass(plugin, base)):
            raise TypeError(
                f"{self.kind} {name!r} ({self._targets[name]}) does not derive from {self._base}"
            )
        return plugin


def _import(target: str, what: str) -> Any:  # noqa: ANN401
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise RequestError(f"cannot import {what} from {target}: {error}") from error


DATASETS = Registry(
    "dataset",
    base="arra_med.datasets.base:DatasetAdapter",
    builtin={
        "mimic-cxr": "arra_med.datasets.mimic_cxr:MimicCxr",
        "deepeyenet": "arra_med.datasets.deepeyenet:DeepEyeNet",
        "conversations": "arra_med.datasets.conversations:Conversations",
        "table": "arra_med.datasets.table:Table",
        "phantom-cxr": "arra_med.datasets.phantom_cxr:PhantomCxr",
        "phantom-fundus": "arra_med.datasets.phantom_fundus:PhantomFundus",
    },
    group="arra_med.datasets",
)
TOKENIZERS = Registry(
    "image tokenizer",
    base="arra_med.tokenizers.base:ImageTokenizer",
    builtin={
        "monai-vqvae": "arra_med.tokenizers.monai_vqvae:MonaiVqvae",
        "chameleon-vq": "arra_med.tokenizers.chameleon_vq:ChameleonVq",
    },
    group="arra_med.tokenizers",
)
TEACHERS = Registry(
    "teacher",
    base="arra_med.teachers.base:Teacher",
    builtin={
        "linear": "arra_med.teachers.linear:LinearTeacher",
        "biomedclip": "arra_med.teachers.biomedclip:BiomedClip",
        "medsam": "arra_med.teachers.medsam:MedSam",
        "clip-l": "arra_med.teachers.clip_l:ClipL",
        "rad-dino": "arra_med.teachers.rad_dino:RadDino",
        "transformers": "arra_med.teachers.transformers_encoder:TransformersEncoder",
        "timm": "arra_med.teachers.timm_encoder:TimmEncoder",
    },
    group="arra_med.teachers",
)
JUDGES = Registry(
    "judge",
    base="arra_med.eval.judge:Judge",
    builtin={
        "cnn": "arra_med.eval.judge_cnn:CnnJudge",
        "probe": "arra_med.eval.probe:ProbeJudge",
        "xrv": "arra_med.eval.xrv_judge:XrvJudge",
    },
    group="arra_med.judges",
)
EXTRACTORS = Registry(
    "extractor",
    base="arra_med.eval.extractor:Extractor",
    builtin={
        "cnn": "arra_med.eval.judge_cnn:CnnExtractor",
        "inception": "arra_med.eval.inception:Inception",
        "teacher": "arra_med.eval.teacher_extractor:TeacherExtractor",
        "xrv": "arra_med.eval.xrv_extractor:XrvExtractor",
    },
    group="arra_med.extractors",
)
IMAGE_TEXT_ENCODERS = Registry(
    "image-text encoder",
    base="arra_med.eval.image_text:ImageTextEncoder",
    builtin={
        "biomedclip": "arra_med.eval.biomedclip_pair:BiomedClipPair",
        "fitted": "arra_med.eval.fitted_pair:FittedPair",
    },
    group="arra_med.image_text_encoders",
)
REGISTRIES: dict[str, Registry] = {
    "datasets": DATASETS,
    "tokenizers": TOKENIZERS,
    "teachers": TEACHERS,
    "judges": JUDGES,
    "extractors": EXTRACTORS,
    "image-text-encoders": IMAGE_TEXT_ENCODERS,
}
