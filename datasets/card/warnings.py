"""What a reader of a dataset card must not overlook, decided by rule."""

from collections.abc import Iterator, Mapping
from typing import Any

from arra_med.schema import SPLITS

LONG_PROMPT = 150
"""Words of a prompt that training's default limit of 256 tokens may not hold."""

MANY_EXCLUDED = 0.05
MANY_UNLISTED = 0.1
SMALL_TEST = 100
TINY_TEST = 10
"""Pictures of the test split below which nothing can be measured on it."""
_NAMED = 5  # labels a warning names
_GRAVE = frozenset(
    ("shared-patients", "empty-split", "shared-pictures", "many-excluded", "labels-not-listed")
)


def number(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 study``, ``2,000 studies``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole`` in percent; what is not nothing never shows as 0.0 %."""
    share = 100 * part / max(whole, 1)
    return "< 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def warnings(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every rule that the summary of a prepared folder breaks, the gravest first.

    Returns:
        ``rule``, a short fixed code, and ``text``, a sentence or two for a person.
    """
    found = [
        *_splits(summary),
        *_duplicates(summary),
        *_exclusions(summary),
        *_views(summary),
        *_labels(summary),
        *_prompts(summary),
        *_sizes(summary),
    ]
    return [{"rule": rule, "text": text} for rule, text in found]


def grave_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Texts of the card's warnings that whoever runs the ingest must see before anything else."""
    grave = _GRAVE | ({"small-test"} if summary["by_split"]["test"] < TINY_TEST else set())
    return [warning["text"] for warning in summary["warnings"] if warning["rule"] in grave]


def _splits(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    shared = summary["patients"]["in_several_splits"]
    if shared:
        have = "patient has" if shared == 1 else "patients have"
        yield (
            "shared-patients",
            f"{shared:,} {have} pictures in more than one split. Results on the validation and "
            "test splits will look better than they are: split again by patient.",
        )
    for split in SPLITS:
        if not summary["by_split"][split]:
            yield "empty-split", f"The {split} split is empty."
    num_test = summary["by_split"]["test"]
    if 0 < num_test < SMALL_TEST:
        yield (
            "small-test",
            f"The test split has only {number(num_test, 'picture')} of "
            f"{number(summary['patients']['by_split']['test'], 'patient')}: differences measured "
            "on it are mostly chance.",
        )


def _duplicates(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pictures = summary["duplicates"]["pictures"]
    if pictures["in_several_splits"]:
        yield (
            "shared-pictures",
            f"{number(pictures['in_several_splits'], 'source file')} (byte for byte) "
            f"{_are(pictures['in_several_splits'])} in more than one split: the test split holds "
            "pictures that training may have seen.",
        )
    elif pictures["samples_that_share"]:
        yield (
            "repeated-pictures",
            f"{pictures['samples_that_share']:,} samples share their source file (byte for byte) "
            "with another one, within one split.",
        )


def _exclusions(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = summary["counts"]["found"]
    for entry in summary["exclusions"]:
        if entry["count"] > MANY_EXCLUDED * found:
            yield (
                "many-excluded",
                f"{percent(entry['count'], found)} of all items found ({entry['count']:,}) are "
                f"excluded for one reason, {entry['reason']}.",
            )


def _views(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Missing views matter where others have one, and on chest films always."""
    for modality in sorted({row["modality"] for row in summary["views"]}):
        rows = [row for row in summary["views"] if row["modality"] == modality]
        total = sum(row[split] for row in rows for split in SPLITS)
        without = sum(row[split] for row in rows if row["view"] is None for split in SPLITS)
        if without and (without < total or modality == "cxr"):
            yield (
                "views-missing",
                f"No view is known of {without:,} of {number(total, 'picture')} of modality "
                f"{modality} ({percent(without, total)}).",
            )


def _labels(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    labels, num_samples = summary["labels"], summary["counts"]["samples"]
    if summary["made"]["options"].get("label_column") is not None:
        # A row's labels are then all known or all unknown, so that any label tells.
        unlisted = min((sum(row[s]["unknown"] for s in SPLITS) for row in labels), default=0)
        if MANY_UNLISTED * num_samples <= unlisted and unlisted:
            yield (
                "labels-not-listed",
                f"{unlisted:,} of {number(num_samples, 'sample')} list no label, which counts as "
                "unknown; if these are normal films, set empty_label: none, or a judge learns "
                "nothing of them.",
            )
    known = {
        split: sum(row[split][word] for row in labels for word in ("present", "absent"))
        for split in SPLITS
    }
    if not any(known.values()):
        yield (
            "labels-unknown",
            "Every label of every sample is unknown: nothing that asks for labels (classification, "
            "results by finding) can be measured on this folder.",
        )
        return
    if not known["test"]:
        if summary["by_split"]["test"]:
            yield "test-labels-unknown", "No label of the test split is known."
        return
    never = [row["label"] for row in labels if not row["test"]["present"]]
    if never:
        named = ", ".join(never[:_NAMED]) + (", …" if len(never) > _NAMED else "")
        yield (
            "labels-without-cases",
            f"{len(never):,} of {number(len(labels), 'label')} {_are(len(never))} never present "
            f"in the test split: {named}.",
        )


def _prompts(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    words, num_samples = summary["prompt_words"], summary["counts"]["samples"]
    if words["long"]:
        yield (
            "long-prompts",
            f"More than {LONG_PROMPT} words stand in {number(words['long'], 'prompt')} "
            f"({percent(words['long'], num_samples)}), in the longest {words['max']:,}. Training "
            "counts tokens, of which a word has one or more: see max_prompt_tokens and "
            "long_prompts.",
        )


def _sizes(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sizes, num_samples = summary["sizes"], summary["counts"]["samples"]
    if sizes["smaller_than_training"]:
        yield (
            "enlarged",
            f"Enlarged, and so blurred: {number(sizes['smaller_than_training'], 'picture')} "
            f"({percent(sizes['smaller_than_training'], num_samples)}) whose source is smaller "
            f"than the training size of {summary['made']['size']} pixels.",
        )
    if summary["made"].get("crop") == "center-crop" and sizes["cropped"] > 0.05 * num_samples:
        yield (
            "cropped",
            f"The centre crop cut away more than a quarter of {sizes['cropped']:,} pictures "
            f"({percent(sizes['cropped'], num_samples)}); crop: pad would keep everything.",
        )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
