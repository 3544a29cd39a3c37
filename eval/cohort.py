"""Which pictures are evaluated: the generated ones, the real ones they are set against, the count.

Everything that could make the comparison unfair is refused here, before any network runs: foreign
keys, other prompts, several splits, uneven numbers of pictures a prompt, other sizes.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arra_med.errors import RequestError
from arra_med.eval.picture_facts import PictureFacts, look, picture_name
from arra_med.eval.plain_folder import OfferedPictures
from arra_med.eval.prompt_labels import Mode, with_labels
from arra_med.generation.prompts import evenly
from arra_med.store import PreparedFolder

LOG = logging.getLogger(__name__)

MOST_UNREADABLE = 0.01
"""Share of generated pictures that may be unreadable (and are then left out and counted)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One generator's pictures of one split's prompts.

    Attributes:
        split: of all prompts.
        generated: rows of the generated folder that could be read, by key and index.
        pictures: PNG bytes of ``generated``.
        unreadable: ``{"key", "index", "reason"}`` of the others.
        facts: what a look at each picture told, those that could not be read included.
        images_per_prompt: pictures of each prompt.
        resized: in words, if the pictures were brought to the real ones' size.
    """

    split: str
    generated: list[dict[str, Any]]
    pictures: list[bytes]
    unreadable: list[dict[str, Any]]
    facts: list[PictureFacts]
    images_per_prompt: int
    resized: str | None

    @property
    def keys(self) -> list[str]:
        """The prompt's key of each row of ``generated``."""
        return [str(row["key"]) for row in self.generated]

    @property
    def constant(self) -> list[bool]:
        """Whether each row of ``generated`` is a picture of one value throughout."""
        blank = {one.name for one in self.facts if one.constant}
        return [picture_name(row) in blank for row in self.generated]


@dataclass(frozen=True, kw_only=True)
class Cohort(Drawn):
    """What is compared: pictures, and the real ones that they are held against.

    Attributes:
        dataset: name of the adapter the real pictures came through.
        samples: every sample of that split, in the prepared folder's order.
        real: key → PNG bytes, for all of ``samples``.
        flow: counts from all samples to the pictures evaluated.
        labels: the results file's section ``labels``: how good the labeller's are.
        label_mode: where labels come from.
        represents_split: see :func:`represents`.
    """

    dataset: str
    samples: list[dict[str, Any]]
    real: dict[str, bytes]
    flow: list[dict[str, Any]]
    labels: dict[str, Any]
    label_mode: Mode
    represents_split: bool

    @property
    def labels_from(self) -> dict[str, int]:
        """How many samples have labels of the data set's, and how many of their prompt's text."""
        labelled = int(self.labels["labelled"])
        return {"dataset": len(self.samples) - labelled, "prompt": labelled}

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Samples whose prompts were drawn and could be evaluated, in the split's order."""
        drawn = {row["key"] for row in self.generated}
        return [sample for sample in self.samples if sample["key"] in drawn]

    @property
    def sample_of(self) -> list[dict[str, Any]]:
        """The sample of each row of ``generated``."""
        by_key = {sample["key"]: sample for sample in self.samples}
        return [by_key[row["key"]] for row in self.generated]

    @property
    def patients(self) -> list[str]:
        """Whose prompt each row of ``generated`` is."""
        return [str(sample["patient_id"]) for sample in self.sample_of]

    def to_json(self) -> dict[str, Any]:
        """The results file's section ``cohort``."""
        prompts = self.prompts
        views = Counter(sample["view"] or "unknown" for sample in prompts)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "prompts": len(prompts),
            "generated": len(self.generated),
            "images_per_prompt": self.images_per_prompt,
            "real": len(self.samples),
            "patients": len(set(self.patients)),
            "unreadable": self.unreadable,
            "views": dict(sorted(views.items())),
            "flow": self.flow,
            "resized": self.resized,
            "represents_split": self.represents_split,
            "labels_from": self.labels_from,
        }


def load_cohort(
    prepared: PreparedFolder,
    generated: OfferedPictures,
    *,
    labels: Mode = "dataset",
) -> Cohort:
    """Match generated pictures with samples and read both.

    Args:
        prepared: the real ones.
        generated: a generator's.
        labels: where labels of prompts come from.

    Raises:
        RequestError: if the two folders do not belong together, counts differ, a picture has
            another size or other channels, or more than 1 % of the pictures are unreadable.
    """
    drawn = read_drawn(prepared, generated)
    split = drawn.split
    samples, told = with_labels(prepared.rows(split), labels)
    num_prompts = len({row["key"] for row in generated.rows})
    flow = [
        ("samples in the prepared folder", len(prepared.keys)),
        (f"of other splits than {split}", len(prepared.keys) - len(samples)),
        (f"real pictures of the {split} split", len(samples)),
        ("of these, not drawn", len(samples) - num_prompts),
        ("prompts drawn", num_prompts),
        (f"pictures generated ({drawn.images_per_prompt} a prompt)", len(generated.rows)),
        ("of these, unreadable and left out", len(drawn.unreadable)),
        ("pictures evaluated", len(drawn.generated)),
    ]
    return Cohort(
        **vars(drawn),
        dataset=prepared.dataset,
        samples=samples,
        real=prepared.images([sample["key"] for sample in samples]),
        flow=[{"step": step, "count": count} for step, count in flow],
        labels=told,
        label_mode=labels,
        represents_split=represents(
            {row["key"] for row in generated.rows}, [sample["key"] for sample in samples]
        ),
    )


def represents(drawn: Collection[str], split: Sequence[str]) -> bool:
    """Whether pictures of some prompts may be held against the real ones of a whole split.

    They may if all prompts were drawn but 1 in 100, or as many as there are, evenly spread over the
    split as ``generation.limit`` spreads them. Others were chosen, perhaps by what they ask for.

    Args:
        drawn: keys of the prompts.
        split: all keys of the split, in its order.
    """
    enough = len(drawn) >= (1 - MOST_UNREADABLE) * len(split)
    return enough or set(drawn) == set(evenly(split, len(drawn)))


def read_drawn(prepared: PreparedFolder, generated: OfferedPictures) -> Drawn:
    """A generator's pictures, once they fit the prepared folder; raises as :func:`load_cohort`."""
    rows, split, images_per_prompt = check_rows(prepared, generated)
    kept, pictures, unreadable, facts = read_pictures(prepared, generated, rows)
    return Drawn(
        split=split,
        generated=kept,
        pictures=pictures,
        unreadable=unreadable,
        facts=facts,
        images_per_prompt=images_per_prompt,
        resized=generated.resized,
    )


def check_rows(
    prepared: PreparedFolder, generated: OfferedPictures
) -> tuple[list[dict[str, Any]], str, int]:
    """The rows by key and index, their split, pictures a prompt, once everything agrees.

    Raises:
        RequestError: if keys, prompts, splits or numbers of pictures do not.
    """
    folder = generated.folder
    rows = sorted(generated.rows, key=lambda row: (row["key"], row["index"]))
    if not rows:
        raise RequestError(f"{folder} holds no picture: run 'arra-med generate' again")
    counted = generated.manifest["counts"].get("images", len(rows))
    if counted != len(rows):
        raise RequestError(
            f"{folder}: the manifest counts {counted} pictures, generations.parquet has "
            f"{len(rows)}: generate into a new folder"
        )
    known = {row["key"]: row for row in prepared.rows()}
    foreign = sorted({row["key"] for row in rows} - set(known))
    if foreign:
        raise RequestError(
            f"{folder}: {len(foreign)} keys are not in {prepared.folder}, first {foreign[:3]}: "
            "evaluate with the prepared folder whose prompts were drawn"
        )
    other = [row["key"] for row in rows if row["prompt"] != known[row["key"]]["prompt"]]
    if other:
        raise RequestError(
            f"{folder}: the prompt of {len(other)} pictures is not the one in {prepared.folder}, "
            f"first key {other[0]!r}: evaluate with the prepared folder whose prompts were drawn"
        )
    splits = sorted({known[row["key"]]["split"] for row in rows})
    if len(splits) > 1:
        raise RequestError(f"{folder} mixes prompts of the splits {splits}: generate one split")
    per_key: dict[str, list[int]] = {}
    for row in rows:
        per_key.setdefault(row["key"], []).append(row["index"])
    expected = generated.manifest["config"].get("images_per_prompt", len(per_key[rows[0]["key"]]))
    wrong = [key for key, found in per_key.items() if found != list(range(expected))]
    if wrong:
        raise RequestError(
            f"{folder}: expected pictures 0 to {expected - 1} of every prompt; {len(wrong)} "
            f"prompts have others, first {wrong[0]!r} with {per_key[wrong[0]]}: generate into a "
            "new folder"
        )
    source = generated.manifest["config"].get("prepared")
    if source not in (None, prepared.content_hash):
        LOG.warning(
            "the pictures were drawn from another prepared folder, or an earlier state of %s",
            prepared.folder,
        )
    return rows, splits[0], int(expected)


def read_pictures(
    prepared: PreparedFolder, generated: OfferedPictures, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[bytes], list[dict[str, Any]], list[PictureFacts]]:
    """Of some rows those that can be read, their PNG bytes, the others, and what each look told.

    Raises:
        RequestError: if a picture has another size or other channels than the real ones, more than
            1 % are unreadable, or no pixel of any is above 1: all of them were cast.
    """
    expected = (prepared.image_size, prepared.image_size, prepared.channels)
    kept, pictures, unreadable, facts = [], [], [], []
    for row in rows:
        png, seen = _look(generated, row)
        facts.append(seen)
        if seen.size is None or seen.channels is None:
            reason = seen.problem or RequestError.__name__
            unreadable.append({"key": row["key"], "index": row["index"], "reason": reason})
            continue
        shape = (*reversed(seen.size), seen.channels)
        if shape != expected:
            raise RequestError(
                f"{generated.folder / row['file']}: height, width and channels are {shape}, those "
                f"of {prepared.folder} {expected}: real and generated pictures must be alike"
            )
        kept.append(row)
        pictures.append(png)
    if len(unreadable) > MOST_UNREADABLE * len(rows):
        first = unreadable[0]
        raise RequestError(
            f"{generated.folder}: {len(unreadable)} of {len(rows)} pictures are unreadable (at "
            f"most {MOST_UNREADABLE:.0%} may be), first key {first['key']!r} index "
            f"{first['index']}: generate into a new folder"
        )
    if max((one.highest for one in facts), default=0) == 1:
        raise RequestError(
            f"{generated.folder}: no pixel of any picture is above 1: pictures in [0, 1] were cast "
            "to uint8; scale them to [0, 255] and write them again"
        )
    return kept, pictures, unreadable, facts


def _look(generated: OfferedPictures, row: Mapping[str, Any]) -> tuple[bytes, PictureFacts]:
    """One picture as it is evaluated, decoded to its last pixel."""
    name = picture_name(row)
    try:
        png = generated.png(row)
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the item is recorded
        return b"", PictureFacts(name=name, problem=type(error).__name__)
    return png, look(name, png)
