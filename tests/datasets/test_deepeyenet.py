import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.datasets.deepeyenet import DeepEyeNet, split_keywords
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample

REAL = Path(os.environ.get("ARRA_MED_REAL_DATA", Path(__file__).parents[3] / "shared/data"))
TRAIN, VAL, TEST = (f"eyenet0420/{name}_set" for name in ("train", "val", "test"))


def entry(keywords="drusen", description="Soft drusen."):
    return {"keywords": keywords, "clinical-description": description}


def source(root, train, valid=None, test=None):
    """A tiny DeepEyeNet; the arguments are JSON values or text."""
    for split, value in (("train", train), ("valid", valid), ("test", test)):
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            (root / f"DeepEyeNet_{split}.json").write_text(text)
    return root


def picture(root, name):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), (200, 90, 20), np.uint8)).save(path)


def adapter(root, **options):
    return DeepEyeNet(DeepEyeNet.Options(root=root, **{"min_keyword_count": 1} | options))


def outcome(item):
    return item.key if isinstance(item, Sample) else item.reason


@pytest.mark.parametrize(
    "value",
    [
        [{f"{TRAIN}/a.jpg": entry()}, {f"{TRAIN}/b.jpg": entry("AMD, drusen")}],
        [{f"{TRAIN}/a.jpg": entry(), f"{TRAIN}/b.jpg": entry(["AMD", "drusen"])}],
        {f"{TRAIN}/a.jpg": entry(), f"{TRAIN}/b.jpg": entry("AMD , drusen,")},
        json.dumps([{f"{TRAIN}/a.jpg": entry()}, {f"{TRAIN}/b.jpg": entry("AMD, drusen")}])[:-1]
        + ",]",
        [
            {f"{TRAIN}/a.jpg": {"Keywords": "drusen", "Clinical Description": "Soft drusen."}},
            {f"{TRAIN}/b.jpg": {"keyword": "AMD; drusen", "description": "Soft drusen."}},
        ],
        [{f"{TRAIN}\\a.jpg": entry()}, {"train_set/b.jpg": entry("AMD, drusen")}],
    ],
    ids=["list", "two keys", "dict, spaces", "trailing comma", "spellings", "paths"],
)
def test_every_shape_gives_the_same_samples(tmp_path, value):
    picture(tmp_path, f"{TRAIN}/a.jpg")
    picture(tmp_path, f"{TRAIN}/b.jpg")
    found = list(adapter(source(tmp_path, value)).items())
    assert [outcome(item) for item in found] == [f"{TRAIN}/a", f"{TRAIN}/b"]
    assert [item.labels for item in found] == [{"amd": 0, "drusen": 1}, {"amd": 1, "drusen": 1}]
    assert {item.prompt for item in found} == {"fundus image, Soft drusen."}
    assert {item.modality for item in found} == {"fundus"}


def test_keywords_split_at_commas_outside_brackets():
    assert split_keywords("a, B (c, d),  , a") == ("a", "b (c, d)")
    assert split_keywords(["x y", None, "X  y"]) == ("x y",)
    assert split_keywords(None) == split_keywords("") == ()


def test_valid_file_and_val_folder(tmp_path):
    for name in (f"{TRAIN}/a.jpg", f"{VAL}/b.jpg", f"{VAL}/c.jpg", f"{TEST}/d.jpg"):
        picture(tmp_path, name)
    found = adapter(
        source(
            tmp_path,
            [{f"{TRAIN}/a.jpg": entry()}],
            [{f"{VAL}/b.jpg": entry()}, {"eyenet0420/valid_set/c.jpg": entry()}],
            [{f"{TEST}/d.jpg": entry()}],
        )
    ).items()
    assert [(item.key[-1], item.split) for item in found] == [
        ("a", "train"), ("b", "validate"), ("c", "validate"), ("d", "test"),
    ]  # fmt: skip


def test_nothing_is_lost(tmp_path):
    for name in "abcdef":
        picture(tmp_path, f"{TRAIN}/{name}.jpg")
    text = (
        "[" + ", ".join(
            f'{{"{TRAIN}/{name}.jpg": {json.dumps(value)}}}'
            for name, value in [
                ("a", entry()), ("b", entry(description="")), ("c", "no object"),
                ("gone", entry()), ("a", entry()), ("d", entry(keywords="")),
            ]
        ) + f', {{"{TRAIN}/e.jpg": {json.dumps(entry())}, "{TRAIN}/e.jpg": {json.dumps(entry())}}},'
        ' {"../../etc/passwd": {"keywords": "x"}}]'
    )  # fmt: skip
    found = list(adapter(source(tmp_path, text)).items())
    assert [outcome(item) for item in found] == [
        f"{TRAIN}/a", "no-prompt", "malformed-entry", "missing-image", "duplicate-image",
        f"{TRAIN}/d", f"{TRAIN}/e", "duplicate-image", "missing-image", "not-in-json",
    ]  # fmt: skip
    assert found[-1].source == f"{TRAIN}/f.jpg"
    assert set(found[5].labels.values()) == {None}  # no keywords: unknown, not absent


def test_prompt_from_keywords_or_both(tmp_path):
    for name in "ab":
        picture(tmp_path, f"{TRAIN}/{name}.jpg")
    value = [{f"{TRAIN}/a.jpg": entry("AMD, drusen")}, {f"{TRAIN}/b.jpg": entry("AMD", "")}]
    source(tmp_path, value)
    assert [i.prompt for i in adapter(tmp_path, prompt="keywords").items()] == [
        "fundus image, amd, drusen", "fundus image, amd",
    ]  # fmt: skip
    both = list(adapter(tmp_path, prompt="both", prompt_template="{text}").items())
    assert [(i.prompt, i.prompt_source) for i in both] == [
        ("amd, drusen. Soft drusen.", "keywords+description"), ("amd", "keywords"),
    ]  # fmt: skip


def test_the_vocabulary_counts_training_items_only(tmp_path):
    train = [{f"{TRAIN}/{i}.jpg": entry("common, rare" if i == 0 else "common")} for i in range(3)]
    test = [{f"{TEST}/{i}.jpg": entry("other")} for i in range(9)]
    source(tmp_path, train, test=test)
    assert adapter(tmp_path, min_keyword_count=1).label_names == ("common", "rare")
    assert adapter(tmp_path, min_keyword_count=3).label_names == ("common",)
    with pytest.raises(RequestError, match=r"most frequent in 3\): lower min_keyword_count"):
        adapter(tmp_path, min_keyword_count=4)


def test_siblings_share_a_patient_and_a_split_of_one_s_own(tmp_path):
    names = [f"{TRAIN}/group{i // 4}-{i}.jpg" for i in range(40)]
    for name in names:
        picture(tmp_path, name)
    source(tmp_path, [{name: entry()} for name in names])
    found = list(adapter(tmp_path, splits="by-patient", split_shares=(0.5, 0.2, 0.3)).items())
    assert len({item.patient_id for item in found}) == 10
    assert len({(item.patient_id, item.split) for item in found}) == 10
    assert len({item.split for item in found}) > 1


@pytest.mark.parametrize("text", ["{", "3", '["a"]', '[{"a": 1}, 3]'])
def test_what_is_no_deepeyenet_json_is_refused(tmp_path, text):
    with pytest.raises(RequestError, match=r"DeepEyeNet_train\.json"):
        adapter(source(tmp_path, text))


def test_missing_folder_and_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no DeepEyeNet folder"):
        adapter(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no DeepEyeNet_train\.json"):
        adapter(tmp_path)


def test_pictures_are_read_in_colour(tmp_path):
    picture(tmp_path, f"{TRAIN}/a.jpg")
    data = adapter(source(tmp_path, [{f"{TRAIN}/a.jpg": entry()}]))
    pixels = data.read(next(iter(data.items()))).pixels
    assert data.channels == 3
    assert abs(pixels.astype(int) - (200, 90, 20)).max() < 6


@pytest.mark.real_data
def test_real_fundus_pictures():
    root = REAL / "fundus_open"
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (ARRA_MED_REAL_DATA)")
    on_disk = [p for p in root.rglob("*") if p.suffix in (".jpg", ".png", ".jpeg")]
    data = adapter(root, prompt="both", min_keyword_count=3)
    found = list(data.items())
    assert len(found) == len(on_disk) == 101
    # One healthy eye has neither keywords nor a description.
    assert [i.reason for i in found if isinstance(i, Exclusion)] == ["no-prompt"]
    samples = [item for item in found if isinstance(item, Sample)]
    assert all(data.read(item).pixels.shape[2] == 3 for item in samples[::10])
