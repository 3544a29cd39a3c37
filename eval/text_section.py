"""The results file's section ``text``: every image-text encoder on the cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arra_med.eval.cohort import Drawn
from arra_med.eval.estimators import Array
from arra_med.eval.image_text import ImageTextEncoder
from arra_med.eval.networks import Identity
from arra_med.eval.stage import Stage, described
from arra_med.eval.text_alignment import PromptedPictures, Vectors, text_alignment


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """One encoder's account of the cohort.

    Attributes:
        encoder: its name.
        row: of section ``text``.
        generated: ``(N,)`` fit of each generated picture to its prompt.
        real: ``(N,)`` the same of the real picture of the prompt.
        peers: generator → ``(M,)`` the same of its pictures.
        of_peers: why it is not independent of another generator.
    """

    encoder: str
    row: dict[str, Any]
    generated: Array
    real: Array
    peers: Mapping[str, Array]
    of_peers: Sequence[str]


def read_prompts(
    stage: Stage, encoders: Sequence[tuple[ImageTextEncoder, Identity]]
) -> list[Reading]:
    """Every image-text encoder's account, in their order."""
    return [_read(stage, encoder, identity) for encoder, identity in encoders]


def _read(stage: Stage, encoder: ImageTextEncoder, identity: Identity) -> Reading:
    cohort, name = stage.cohort, encoder.info.name
    encoder.to(stage.device)
    prompts = cohort.prompts
    read = encoder.encode_texts([sample["prompt"] for sample in prompts])
    texts = dict(zip((sample["key"] for sample in prompts), read.vectors, strict=True))
    keys = [str(sample["key"]) for sample in prompts]
    of_real = stage.predict_real(encoder, identity, keys, f"{name}: real")
    real = dict(zip(keys, of_real, strict=True))
    pairs = PromptedPictures(
        generated=stage.predict(encoder, cohort.pictures, f"{name}: generated"),
        real=np.stack([real[key] for key in cohort.keys]),
        texts=np.stack([texts[key] for key in cohort.keys]),
        prompts=[row["prompt"] for row in cohort.generated],
        patients=cohort.patients,
    )
    row = {
        "encoder": name,
        **described(encoder.info, stage.objections(identity, encoder.info)),
        **text_alignment(
            pairs,
            stage.resampling.generated,
            truncated=read.truncated,
            context=encoder.context,
        ),
    }

    def of_peer(drawn: Drawn, who: str) -> Array:
        vectors = stage.predict(encoder, drawn.pictures, f"{name}: {who}")
        wanted = {row["key"]: row["prompt"] for row in drawn.generated if row["key"] not in texts}
        more = encoder.encode_texts(list(wanted.values())).vectors
        texts.update(zip(wanted, more, strict=True))
        return _fit(vectors, np.stack([texts[key] for key in drawn.keys]))

    return Reading(
        encoder=name,
        row=row,
        generated=_fit(pairs.generated, pairs.texts),
        real=_fit(pairs.real, pairs.texts),
        peers={who: of_peer(peer.drawn, who) for who, peer in stage.peers.items()},
        of_peers=stage.peer_objections(identity, encoder.info),
    )


def _fit(pictures: Vectors, texts: Vectors) -> Array:
    """``(N,)`` cosine of each picture and its own prompt, from ``(N, D)`` vectors."""
    lengths = np.linalg.norm(pictures, axis=1) * np.linalg.norm(texts, axis=1)
    return np.asarray((pictures * texts).sum(axis=1) / lengths, dtype=np.float64)
