import html
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt

from arra_med.datasets import card
from arra_med.datasets.card.text import escape
from arra_med.errors import WorkError
from arra_med.images import encode_png
from arra_med.registry import DATASETS
from arra_med.schema import images_schema, samples_schema

CONFIG = {
    "dataset": {
        "name": "fixture",
        "root": "secret-root",
        "reports": "/archive/reports",
        "views": ["PA", "lateral"],
        "prompt_template": "PA/AP: {text}",
    },
    "size": 512,
    "crop": "center-crop",
    "part_size": 7,
    "privacy": {"hash_ids": True, "key_file": "mykey", "allow": ["PatientID"]},
}
LABELS = ["Edema", "No Finding"]
EXCLUSIONS = [
    {
        "item": "item-nine",
        "source": "nine.png",
        "reason": "no-prompt",
        "detail": "its report is empty",
    },
    {"item": "p8", "source": "p8.png", "reason": "unreadable-image", "detail": "it is | <cut> off"},
    {"item": "p7", "source": "p7.png", "reason": "no-prompt", "detail": "another sentence"},
]


def row(key, patient, split, view, prompt, labels, size, *, sha=None, study="s1", **changes):
    edema, normal = labels
    return {
        "key": key,
        "patient_id": patient,
        "study_id": study,
        "split": split,
        "view": view,
        "prompt": prompt,
        "prompt_source": "impression",
        "labels": {"Edema": edema, "No Finding": normal},
        "modality": "cxr",
        "source": f"{key}.png",
        "source_sha256": sha or f"sha of {key}",
        "width": size[0],
        "height": size[1],
    } | changes


ROWS = [
    row("a1", "anna", "train", "PA", "one two", (1, 0), (1000, 1000)),
    row("a2", "anna", "train", "lateral", "one two", (1, None), (1000, 1000)),
    row("a3", "anna", "train", "PA", "one two three", (0, 1), (2000, 3000), study="s2"),
    row("b1", "bob", "train", "PA", "a b c d", (-1, None), (300, 600), prompt_source="findings"),
    row("c1", "carl", "validate", "PA", "one two", (None, None), (1000, 1000)),
    row("d1", "dora", "test", None, "x", (0, 1), (1000, 1000)),
]


def tables(rows, batch=None, names=LABELS):
    table = pa.Table.from_pylist(rows, samples_schema(names))
    return [table] if batch is None else table.to_batches(max_chunksize=batch)


def summarise(rows=ROWS, exclusions=EXCLUSIONS, *, batch=None, names=LABELS, **changes):
    counts = {
        "found": len(rows) + len(exclusions),
        "samples": len(rows),
        "excluded": len(exclusions),
    }
    arguments = {
        "counts": counts,
        "edits": {"join_lists": 3},
        "config": CONFIG,
        "label_names": names,
    } | changes
    return card.summarise(iter(tables(rows, batch, names)), iter(exclusions), **arguments)


def test_counts_by_hand():
    summary = summarise()
    assert summary["counts"] == {"found": 9, "samples": 6, "excluded": 3}
    assert summary["by_split"] == {"train": 4, "validate": 1, "test": 1}
    # Anna's studies s1 and s2; the others' s1 are their own.
    assert summary["studies"] == {
        "all": 5,
        "by_split": {"train": 3, "validate": 1, "test": 1},
    }
    assert summary["patients"] == {
        "all": 4,
        "by_split": {"train": 2, "validate": 1, "test": 1},
        "in_several_splits": 0,
        "pictures_each": {"mean": 1.5, "median": 1, "max": 3},
    }
    assert summary["views"] == [
        {"modality": "cxr", "view": "PA", "train": 3, "validate": 1, "test": 0},
        {"modality": "cxr", "view": None, "train": 0, "validate": 0, "test": 1},
        {"modality": "cxr", "view": "lateral", "train": 1, "validate": 0, "test": 0},
    ]
    assert summary["prompt_sources"] == [
        {"prompt_source": "impression", "train": 3, "validate": 1, "test": 1},
        {"prompt_source": "findings", "train": 1, "validate": 0, "test": 0},
    ]
    assert summary["clean_up"] == {"join_lists": 3}
    assert summary["exclusions"] == [
        {"reason": "no-prompt", "count": 2, "example": "its report is empty"},
        {"reason": "unreadable-image", "count": 1, "example": "it is | <cut> off"},
    ]


def test_labels_by_hand():
    edema, normal = summarise()["labels"]
    assert edema == {
        "label": "Edema",
        "train": {"present": 2, "absent": 1, "uncertain": 1, "unknown": 0},
        "validate": {"present": 0, "absent": 0, "uncertain": 0, "unknown": 1},
        "test": {"present": 0, "absent": 1, "uncertain": 0, "unknown": 0},
    }
    assert normal["train"] == {"present": 1, "absent": 1, "uncertain": 0, "unknown": 2}


def test_a_row_whose_labels_are_null_is_unknown():
    edema, _ = summarise([*ROWS, ROWS[0] | {"labels": None}])["labels"]
    assert edema["train"] == {"present": 2, "absent": 1, "uncertain": 1, "unknown": 1}


def test_sizes_and_prompt_lengths_by_hand():
    summary = summarise()
    sizes = summary["sizes"]
    assert sizes["distinct"] == 3
    assert sizes["top"][0] == {"width": 1000, "height": 1000, "count": 4}
    assert sizes["smaller_than_training"] == 1  # 300 × 600
    assert sizes["cropped"] == 2  # 2 : 3 and 1 : 2
    filled = {entry["from"]: entry["count"] for entry in sizes["megapixels"] if entry["count"]}
    assert filled == {1: 4, 0.1: 1, 4: 1}  # 1.0, 0.18 and 6.0 megapixels
    filled = {entry["from"]: entry["count"] for entry in sizes["aspect_ratio"] if entry["count"]}
    assert filled == {0.98: 4, 0.5: 2}  # 1, 0.5 and 0.667 (below 0.67)
    words = summary["prompt_words"]  # 1 2 2 2 3 4
    assert (words["median"], words["p95"], words["max"], words["long"]) == (2, 4, 4, 0)
    assert [entry["count"] for entry in words["bins"]] == [0, 1, 3, 1, 1, 0]
    assert words["bins"][-1] == {"from": 5, "to": None, "count": 0}


def test_long_prompts_share_the_last_bar():
    rows = [row(f"k{i}", "p", "train", "PA", "w " * 30, (1, 1), (9, 9)) for i in range(199)]
    rows.append(row("long", "p", "train", "PA", "w " * 1000, (1, 1), (9, 9)))
    words = summarise(rows)["prompt_words"]
    assert words["bins"][-1] == {"from": 35, "to": None, "count": 1}
    assert (words["median"], words["p95"], words["max"], words["long"]) == (30, 30, 1000, 1)


def test_duplicates_by_hand():
    rows = [*ROWS, row("e1", "eva", "test", "PA", "one two", (1, 0), (9, 9), sha="sha of a1")]
    duplicates = summarise(rows)["duplicates"]
    # "one two" four times, in train, validate and test; a1's file in train and test.
    assert duplicates == {
        "prompts": {"distinct": 4, "samples_that_share": 4, "in_several_splits": 1},
        "pictures": {"distinct": 6, "samples_that_share": 2, "in_several_splits": 1},
    }


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_do_not_matter(batch):
    whole, pieces = summarise(), summarise(batch=batch)
    assert card.card_json(whole) == card.card_json(pieces)
    assert card.card_markdown(whole) == card.card_markdown(pieces)


def test_the_card_of_the_stored_json_is_the_card():
    summary = summarise()
    assert card.card_markdown(json.loads(card.card_json(summary))) == card.card_markdown(summary)


def test_what_does_not_add_up_is_refused():
    with pytest.raises(WorkError, match="'samples': 7"):
        summarise(counts={"found": 10, "samples": 7, "excluded": 3})
    with pytest.raises(WorkError, match="none of 1, 0, -1"):
        summarise([row("a", "a", "train", "PA", "x", (3, 0), (9, 9))])


def test_a_folder_without_samples_has_a_card():
    summary = summarise([])
    assert summary["counts"]["samples"] == 0
    assert b"0 pictures" in card.card_markdown(summary)


def rules(rows=ROWS, exclusions=(), **changes):
    return [entry["rule"] for entry in summarise(rows, list(exclusions), **changes)["warnings"]]


def clean(num=300, **changes):
    """Rows that break no rule: 100 a split, own patients, known labels."""
    return [
        row(f"k{i}", f"p{i}", ("train", "validate", "test")[i // 100], "PA", f"text {i}",
            (1, 1), (600, 600), **changes)
        for i in range(num)
    ]  # fmt: skip


def test_nothing_to_warn_of():
    assert rules(clean()) == []
    text = card.card_markdown(summarise(clean(), [])).decode()
    assert "No patient is in more than one split." in text
    assert "No rule found anything" in text
    assert "Warning" not in text


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("shared-patients", lambda rows: rows[0].update(patient_id="p299")),
        ("shared-pictures", lambda rows: rows[0].update(source_sha256="sha of k299")),
        ("repeated-pictures", lambda rows: rows[0].update(source_sha256="sha of k1")),
        ("empty-split", lambda rows: [r.update(split="train") for r in rows[100:200]]),
        ("small-test", lambda rows: rows.pop()),
        ("views-missing", lambda rows: rows[0].update(view=None)),
        ("long-prompts", lambda rows: rows[0].update(prompt="word " * 151)),
        ("enlarged", lambda rows: rows[0].update(width=511)),
        ("cropped", lambda rows: [r.update(width=801) for r in rows[:16]]),
        ("labels-without-cases", lambda rows: [r["labels"].update(Edema=0) for r in rows[200:]]),
        ("labels-unknown", lambda rows: [r.update(labels=None) for r in rows]),
        ("test-labels-unknown", lambda rows: [r.update(labels=None) for r in rows[200:]]),
    ],
)  # fmt: skip
def test_each_rule_speaks_up_alone(rule, change):
    rows = clean()
    change(rows)
    assert rules(rows) == [rule]


def test_rules_at_their_limits():
    rows = clean()
    rows[0]["prompt"] = "word " * 150
    rows[1]["width"] = 512
    for sample in rows[:15]:  # 5 % exactly
        sample["width"] = 801
    assert rules(rows) == []
    assert rules([r | {"view": None, "modality": "fundus"} for r in clean()]) == []
    assert rules([r | {"view": None} for r in clean()]) == ["views-missing"]
    gone = [{"item": "x", "source": "", "reason": "no-prompt", "detail": "d"}]
    assert rules(clean(), gone * 15) == []
    assert rules(clean(), gone * 16) == ["many-excluded"]  # 16 of 316


def test_rows_that_list_no_label_are_said_where_a_column_lists_them():
    options = CONFIG["dataset"]
    listed = CONFIG | {"dataset": options | {"label_column": "findings"}}
    rows = clean()
    for sample in rows[:30]:  # a tenth exactly
        sample["labels"] = None
    assert rules(rows) == []
    summary = summarise(rows, [], config=listed)
    assert [entry["rule"] for entry in summary["warnings"]] == ["labels-not-listed"]
    (said,) = card.grave_warnings(summary)
    assert said.startswith("30 of 300 samples list no label, which counts as unknown")
    assert "empty_label: none" in said
    assert rules(rows[1:], config=listed) == []


def test_shared_patients_are_said_loudly():
    rows = [*ROWS, row("a9", "anna", "test", "PA", "y", (1, 0), (9, 9))]
    text = card.card_markdown(summarise(rows)).decode()
    assert text.index("> **Warning: 1 patient has pictures in more than one split.") < text.index(
        "contact-sheet.png"
    )
    assert "No patient is in more than one split" not in text


def test_no_person_path_or_prompt_is_in_the_card():
    text = card.card_markdown(summarise()) + card.card_json(summarise())
    for private in ("anna", "dora", "a1", "one two", "nine", ".png", "secret-root", "/archive",
                    "mykey"):  # fmt: skip
        assert private not in text.decode().replace("contact-sheet.png", "")
    assert summarise()["made"] == {
        "dataset": "fixture",
        "options": {
            "root": "(not shown)",
            "reports": "(not shown)",
            "views": ["PA", "lateral"],
            "prompt_template": "PA/AP: {text}",
        },
        "size": 512,
        "crop": "center-crop",
        "privacy": {"hash_ids": True, "key_file": "(not shown)", "allow": ["PatientID"]},
    }


@pytest.mark.parametrize("name", DATASETS.names())
def test_paths_of_every_adapter_are_hidden(name):
    options = dict.fromkeys(DATASETS.get(name).Options.__dataclass_fields__, "word")
    made = summarise(config={"dataset": {"name": name, **options}, "size": 8, "crop": "pad"})[
        "made"
    ]
    declared = DATASETS.get(name).Options.__dataclass_fields__.items()
    for key, field in declared:
        if "Path" in str(field.type):
            assert made["options"][key] == "(not shown)", key


UGLY = ["a|b", "<script>", "*bold* `code` [x](y)", "back\\slash\\", "1 & 2 &lt;", "line\nbreak"]


def parsed(text):
    """Rows of cells of every table, as a Markdown reader shows them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found, cells = [], []
    for previous, token in pairwise(tokens):
        if token.type == "tr_close":
            found.append(cells)
            cells = []
        elif token.type == "inline" and previous.type in ("td_open", "th_open"):
            assert {child.type for child in token.children} <= {"text", "text_special"}
            cells.append("".join(child.content for child in token.children))
    return found


def test_wild_names_stay_literal_text():
    rows = [
        row(f"k{i}", f"p{i}", "train", name, "x", (1, 0), (9, 9), modality=name,
            prompt_source=name) | {"labels": dict.fromkeys(UGLY, 1)}
        for i, name in enumerate(UGLY)
    ]  # fmt: skip
    exclusions = [{"item": "x", "source": "", "reason": name, "detail": name} for name in UGLY]
    summary = summarise(rows, exclusions, names=UGLY, edits=dict.fromkeys(UGLY, 1))
    text = card.card_markdown(summary).decode()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["medical", *sorted(UGLY)]
    found = parsed(body)
    one_line = {" ".join(name.split()) for name in UGLY}
    views = [cells for cells in found if len(cells) == 6]
    assert {cells[1] for cells in views} == one_line | {"view"}
    labels = [cells for cells in found if len(cells) == 7]
    assert {cells[0] for cells in labels} == one_line | {"label"}
    reasons = [cells for cells in found if cells[0] in one_line and len(cells) == 4]
    assert {(cells[0], cells[3]) for cells in reasons} == {(name, name) for name in one_line}
    assert "<script>" not in body


@pytest.mark.parametrize("name", UGLY)
def test_escape_reads_back(name):
    page = MarkdownIt("commonmark").render(f"see {escape(name)}")
    inner = page.removeprefix("<p>see ").removesuffix("</p>\n")
    assert "<" not in inner
    assert html.unescape(inner) == " ".join(name.split())


def test_every_line_of_a_histogram_is_aligned():
    rows = [row(f"k{i}", "p", "train", "PA", "w " * (i % 40), (1, 1), (9, 9)) for i in range(2000)]
    text = card.card_markdown(summarise(rows)).decode()
    block = text.split("```text\n")[1].split("\n```")[0].splitlines()
    assert {line.index("%") for line in block[1:]} == {block[1].index("%")}
    assert max(len(line.rsplit("%", 1)[1].strip()) for line in block[1:]) == 32


def test_many_labels_are_cut_off_but_stored():
    names = [f"label {i}" for i in range(609)]
    labels = dict.fromkeys(names, 0) | {"label 600": 1}
    summary = summarise(
        [row("k", "p", "train", "PA", "x", (1, 0), (9, 9)) | {"labels": labels}], names=names
    )
    text = card.card_markdown(summary).decode()
    assert "And 569 more rows" in text
    assert "| label 600 | 1 |" in text  # the most frequent come first
    assert len(summary["labels"]) == 609


def test_hugging_face_opens_the_folder_by_its_card(tmp_path):
    import datasets  # Hugging Face's; slow to import

    (tmp_path / "images").mkdir()
    (tmp_path / "README.md").write_bytes(card.card_markdown(summarise()))
    (tmp_path / "manifest.json").write_text("{}")
    pq.write_table(tables(ROWS)[0], tmp_path / "samples.parquet")
    png = encode_png(np.full((4, 4), 7, np.uint8))
    for part, sample in enumerate(ROWS):
        line = {"key": sample["key"], "image": {"bytes": png, "path": None}}
        pq.write_table(
            pa.Table.from_pylist([line], images_schema()),
            tmp_path / f"images/part-{part:05d}.parquet",
        )
    cache = str(tmp_path / "cache")
    samples = datasets.load_dataset(str(tmp_path), split="everything", cache_dir=cache)
    assert samples["key"][:] == [sample["key"] for sample in ROWS]
    pictures = datasets.load_dataset(str(tmp_path), "images", split="everything", cache_dir=cache)
    assert pictures[5]["image"].getpixel((0, 0)) == 7
