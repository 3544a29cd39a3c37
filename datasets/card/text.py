"""The dataset card as Markdown, with front matter that Hugging Face's ``datasets`` reads.

Called ``README.md`` in the prepared folder, it lets ``datasets.load_dataset(folder, "samples")``
and ``load_dataset(folder, "images")`` open the two tables.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from arra_med.datasets.card.warnings import number, percent
from arra_med.schema import SPLITS

_BAR = 32  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MAX_ROWS = 40  # of a table of views or labels; card.json has all
_SIZE_CATEGORIES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)  # fmt: skip
_TITLES = {"train": "training", "validate": "validation", "test": "test"}
_FILES = """\
* `samples.parquet`: one row a picture: `key`, `patient_id`, `study_id`, `split`, `view`, \
`prompt`, `prompt_source`, `labels` (1 present, 0 absent, -1 uncertain, null unknown), `modality`, \
and of the source file `source`, `source_sha256`, `width`, `height`.
* `images/part-*.parquet`: `key` and `image`, PNG.
* `excluded.jsonl`: every item found that is not in `samples.parquet`, with its reason.
* `manifest.json`: configuration, versions and content hashes. `card.json`: the numbers of this \
card.

```python
from datasets import load_dataset

samples = load_dataset("path/to/this/folder", "samples", split="everything")
images = load_dataset("path/to/this/folder", "images", split="everything")
```

The tables belong together by `key`. They hold what the source's terms of use cover (patient and \
study ids, report texts, pictures); who may not have the source may not have this folder."""


def card_markdown(summary: Mapping[str, Any]) -> bytes:
    """The card that ``summarise`` counted, as Markdown in UTF-8."""
    name = escape(summary["made"]["dataset"])
    sections = [
        _front_matter(summary),
        f"# {name}: dataset card",
        _loud(summary),
        _opening(summary),
        "![Contact sheet: pictures of every view, chosen by the hash of their key]"
        "(contact-sheet.png)",
        "## Things to know",
        _things_to_know(summary),
        "## Splits and views",
        _splits(summary),
        _views(summary),
        "## Labels",
        _labels(summary),
        "## Prompts",
        _prompts(summary),
        "## Sizes of the source pictures",
        _sizes(summary),
        "## Excluded items",
        _exclusions(summary),
        "## How it was made",
        _made(summary),
        "## What is in this folder",
        _FILES,
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    return text.encode("utf-8", "backslashreplace")


def escape(text: object) -> str:
    """Any text as one line of Markdown that shows it literally, also in a table's cell."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", str(text)).split())
    return re.sub(r"([\\`*_{}\[\]#|~!$])", r"\\\1", html.escape(line, quote=False))


def _front_matter(summary: Mapping[str, Any]) -> str:
    num_samples = summary["counts"]["samples"]
    modalities = sorted({row["modality"] for row in summary["views"]})
    category = next((name for top, name in _SIZE_CATEGORIES if num_samples < top), "n>10M")
    front = {
        "pretty_name": summary["made"]["dataset"],
        "task_categories": ["text-to-image"],
        "size_categories": [category],
        "tags": ["medical", *modalities],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": "everything", "path": path}],
                **({"default": True} if name == "samples" else {}),
            }
            for name, path in (
                ("samples", "samples.parquet"), ("images", "images/part-*.parquet"),
            )
        ],
    }  # fmt: skip
    return "---\n" + yaml.safe_dump(front, sort_keys=False, allow_unicode=True) + "---"


def _loud(summary: Mapping[str, Any]) -> str:
    grave = [
        f"> **Warning: {escape(warning['text'])}**"
        for warning in summary["warnings"]
        if warning["rule"] in ("shared-patients", "shared-pictures")
    ]
    return "\n>\n".join(grave)


def _opening(summary: Mapping[str, Any]) -> str:
    counts, size = summary["counts"], summary["made"]["size"]
    kept = (
        f"All {number(counts['found'], 'item')} found became samples."
        if not counts["excluded"]
        else f"Of {number(counts['found'], 'item')} found, {counts['excluded']:,} "
        f"({percent(counts['excluded'], counts['found'])}) were excluded, each with a reason."
    )
    parts = ", ".join(f"{summary['by_split'][split]:,} for {_TITLES[split]}" for split in SPLITS)
    words = summary["prompt_words"]
    shared = summary["patients"]["in_several_splits"]
    apart = (
        "No patient is in more than one split."
        if not shared
        else f"**Patients in more than one split: {shared:,}.**"
    )
    return (
        f"{number(counts['samples'], 'picture')} with prompts, of "
        f"{number(summary['studies']['all'], 'study', 'studies')} of "
        f"{number(summary['patients']['all'], 'patient')}, brought to {size} × {size} pixels. "
        f"{kept} The pictures are split {parts}. {apart} Half of the prompts have "
        f"{number(words['median'], 'word')} or fewer, and the longest has {words['max']:,}."
    )


def _things_to_know(summary: Mapping[str, Any]) -> str:
    if not summary["warnings"]:
        return "No rule found anything that would need a warning."
    return "\n".join(f"* {escape(warning['text'])}" for warning in summary["warnings"])


def _splits(summary: Mapping[str, Any]) -> str:
    studies, patients = summary["studies"], summary["patients"]
    rows = [
        [
            split,
            f"{summary['by_split'][split]:,}",
            f"{studies['by_split'][split]:,}",
            f"{patients['by_split'][split]:,}",
        ]
        for split in SPLITS
    ]
    whole = (summary["counts"]["samples"], studies["all"], patients["all"])
    rows.append(["all", *(f"{count:,}" for count in whole)])
    each = patients["pictures_each"]
    return (
        _table(["split", "pictures", "studies", "patients"], rows)
        + f"\n\nPictures a patient: {each['mean']:,} on average, {each['median']:,} in the "
        f"median, {each['max']:,} at most. Patients in more than one split: "
        f"{patients['in_several_splits']:,}. Samples whose source file another sample has "
        f"too: {summary['duplicates']['pictures']['samples_that_share']:,}."
    )


def _views(summary: Mapping[str, Any]) -> str:
    rows = [
        [escape(row["modality"]), escape(row["view"] or "no view"), *_by_split(row)]
        for row in summary["views"]
    ]
    return _table(["modality", "view", *SPLITS, "all"], rows, text_columns=2)


def _labels(summary: Mapping[str, Any]) -> str:
    def over_splits(row: Mapping[str, Any], word: str) -> int:
        return sum(int(row[split][word]) for split in SPLITS)

    labels = sorted(summary["labels"], key=lambda row: -over_splits(row, "present"))
    rows = [
        [
            escape(row["label"]),
            *(f"{row[split]['present']:,}" for split in SPLITS),
            *(f"{over_splits(row, word):,}" for word in ("absent", "uncertain", "unknown")),
        ]
        for row in labels
    ]
    header = ["label", *(f"present, {split}" for split in SPLITS), "absent", "uncertain", "unknown"]
    return _table(header, rows)


def _prompts(summary: Mapping[str, Any]) -> str:
    sources = [[escape(row["prompt_source"]), *_by_split(row)] for row in summary["prompt_sources"]]
    words, twins = summary["prompt_words"], summary["duplicates"]["prompts"]
    num_samples = summary["counts"]["samples"]
    edits = [[escape(kind), f"{count:,}"] for kind, count in sorted(summary["clean_up"].items())]
    parts = [
        "Where the texts come from:",
        _table(["prompt source", *SPLITS, "all"], sources),
        f"Words a prompt, template included: {words['median']:,} in the median, 95 % have "
        f"{words['p95']:,} or fewer, at most {words['max']:,}.",
        _histogram("words", words["bins"], whole_numbers=True),
        f"{number(twins['distinct'], 'prompt')} in all. Samples that share theirs with another "
        f"one: {twins['samples_that_share']:,} "
        f"({percent(twins['samples_that_share'], num_samples)}). Prompts in more than one split: "
        f"{twins['in_several_splits']:,}.",
        "Clean-up of the texts, and how often it was applied:" if edits else "",
        _table(["clean-up", "applied"], edits) if edits else "No clean-up was applied.",
    ]
    return "\n\n".join(part for part in parts if part)


def _sizes(summary: Mapping[str, Any]) -> str:
    sizes, num_samples = summary["sizes"], summary["counts"]["samples"]
    top = [
        [
            f"{row['width']} × {row['height']}",
            f"{row['count']:,}",
            percent(row["count"], num_samples),
        ]
        for row in sizes["top"]
    ]
    more = sizes["distinct"] - len(top)
    return "\n\n".join([
        _table(["width × height", "pictures", "share"], top),
        *([f"And {number(more, 'other size')}."] if more else []),
        _histogram("megapixels", sizes["megapixels"]),
        _histogram("width / height", sizes["aspect_ratio"]),
    ])  # fmt: skip


def _exclusions(summary: Mapping[str, Any]) -> str:
    if not summary["exclusions"]:
        return "None."
    found = summary["counts"]["found"]
    rows = [
        [
            escape(entry["reason"]),
            f"{entry['count']:,}",
            percent(entry["count"], found),
            escape(entry["example"]),
        ]
        for entry in summary["exclusions"]
    ]
    header = ["reason", "items", "of all found", "for example"]
    return _table(header, rows, text_columns=1, last_is_text=True)


def _made(summary: Mapping[str, Any]) -> str:
    made = dict(summary["made"])
    dataset = {"name": made.pop("dataset"), **made.pop("options")}
    rows = [[escape(key), _value(value)] for key, value in _flat({**made, "dataset": dataset})]
    table = _table(["setting", "value"], rows, text_columns=2)
    return f"`arra-med ingest` with these settings (without paths):\n\n{table}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in sorted(tree.items()):
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return "not set"
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return escape(text.removesuffix("\n").removesuffix("\n..."))


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: int = 1,
    last_is_text: bool = False,
) -> str:
    """A table of escaped cells: the first ``text_columns`` to the left, numbers to the right."""
    marks = [
        ":--" if i < text_columns or (last_is_text and i == len(header) - 1) else "--:"
        for i in range(len(header))
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows[:_MAX_ROWS])]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\nAnd {len(rows) - _MAX_ROWS:,} more rows, all of them in `card.json`.")
    return "\n".join(lines)


def _histogram(
    title: str, bins: Sequence[Mapping[str, Any]], *, whole_numbers: bool = False
) -> str:
    """Aligned bars in a code block; empty bins at the ends are left out."""
    filled = [index for index, entry in enumerate(bins) if entry["count"]]
    if not filled:
        return ""
    shown = bins[filled[0] : filled[-1] + 1]
    most, total = max(entry["count"] for entry in shown), sum(entry["count"] for entry in shown)
    names = [title, *(_range(entry, whole_numbers) for entry in shown)]
    counts = ["pictures" if not whole_numbers else "prompts"]
    counts += [f"{entry['count']:,}" for entry in shown]
    shares = ["", *(percent(entry["count"], total) for entry in shown)]
    bars = ["", *(_bar(entry["count"] / most) for entry in shown)]
    widths = [max(map(len, column)) for column in (names, counts, shares)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells[:3], widths, strict=True))
        + ("  " + cells[3]).rstrip()
        for cells in zip(names, counts, shares, bars, strict=True)
    ]
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def _range(entry: Mapping[str, Any], whole_numbers: bool) -> str:
    low, high = entry["from"], entry["to"]
    if high is None:
        return f"≥ {low:,}"
    if not whole_numbers:
        return f"{low:g} to {high:g}" if low else f"< {high:g}"
    return f"{low:,}" if high - low == 1 else f"{low:,} to {high - 1:,}"


def _bar(share: float) -> str:
    """A bar of eighths of a character; whatever is not nothing shows at least one."""
    eighths = max(round(share * _BAR * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _by_split(row: Mapping[str, Any]) -> list[str]:
    counts = [int(row[split]) for split in SPLITS]
    return [f"{count:,}" for count in (*counts, sum(counts))]
