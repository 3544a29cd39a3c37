import json
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arra_med.datasets.base import Excluded
from arra_med.datasets.deepeyenet import DeepEyeNet
from arra_med.datasets.deepeyenet_entries import patient_of, split_keywords
from arra_med.datasets.deepeyenet_modality import modality_from_text, modality_of, redness
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample

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


def picture(root, name, colour=(200, 90, 20)):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((32, 16, 3), colour, np.uint8)
    pixels[:16] //= 2  # not blank, and along JPEG's blocks
    Image.fromarray(pixels).save(path)


def adapter(root, **options):
    return DeepEyeNet(DeepEyeNet.Options(root=root, **{"min_keyword_count": 1} | options))


def completed(data, redact=lambda text: text):
    """Items as the ingest makes them: read, then completed."""
    for item in data.items():
        if isinstance(item, Exclusion):
            yield item
            continue
        try:
            data.read(item)
            yield data.complete(item, redact)
        except Excluded as error:
            yield Exclusion(
                item=item.key, source=item.source, reason=error.reason, detail=error.detail
            )


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
        [
            {f"{TRAIN}/a.jpg": {"Key-Words": ["drusen"], "clinical_description": ["Soft drusen."]}},
            {f"{TRAIN}/b.jpg": {"KEYWORDS": "AMD,,drusen, ,", "caption": "Soft drusen."}},
        ],
    ],
    ids=[
        "list",
        "two keys, list of keywords",
        "dict, spaces",
        "trailing comma",
        "spellings",
        "paths",
        "more spellings, empty keywords",
    ],
)
def test_every_shape_gives_the_same_samples(tmp_path, value):
    picture(tmp_path, f"{TRAIN}/a.jpg")
    picture(tmp_path, f"{TRAIN}/b.jpg")
    data = adapter(source(tmp_path, value))
    found = list(completed(data))
    assert data.num_items() == len(found)
    assert [outcome(item) for item in found] == [f"{TRAIN}/a", f"{TRAIN}/b"]
    assert [item.labels for item in found] == [{"amd": 0, "drusen": 1}, {"amd": 1, "drusen": 1}]
    assert {item.prompt for item in found} == {"fundus image, Soft drusen."}
    assert {item.modality for item in found} == {"fundus"}


def test_keywords_split_at_commas_outside_brackets():
    assert split_keywords("a, B (c, d),  , a") == ("a", "b (c, d)")
    assert split_keywords(["x y", None, "X  y"]) == ("x y",)
    assert split_keywords(None) == split_keywords("") == split_keywords(float("nan")) == ()
    assert split_keywords(["nan", 3]) == ("3",)
    assert split_keywords([["a"]]) is split_keywords(True) is None


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
    data = adapter(source(tmp_path, text))
    found = list(data.items())
    assert data.num_items() == len(found) == 10
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
    assert [i.prompt for i in completed(adapter(tmp_path, prompt="keywords"))] == [
        "fundus image, amd, drusen", "fundus image, amd",
    ]  # fmt: skip
    both = list(completed(adapter(tmp_path, prompt="both", prompt_template="{text}")))
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
    with pytest.raises(FileNotFoundError, match=r"no DeepEyeNet folder.*correct ingest"):
        adapter(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no DeepEyeNet_train\.json"):
        adapter(tmp_path)


def test_pictures_are_read_in_colour(tmp_path):
    picture(tmp_path, f"{TRAIN}/a.jpg")
    data = adapter(source(tmp_path, [{f"{TRAIN}/a.jpg": entry()}]))
    pixels = data.read(next(iter(data.items()))).pixels
    assert data.channels == 3
    assert abs(pixels[24:].astype(int) - (200, 90, 20)).max() < 6


def test_separated_siblings_are_reported(tmp_path, caplog):
    files = [f"{TRAIN}/group1-1.jpg", f"{TRAIN}/a.jpg", f"{TEST}/group1-2.jpg", f"{TEST}/b.jpg"]
    for name in files:
        picture(tmp_path, name)
    train, test = ([{name: entry()} for name in part] for part in (files[:2], files[2:]))
    found = list(adapter(source(tmp_path, train, test=test)).items())
    assert "separates pictures of 1 patients (of 3)" in caplog.text
    assert "by-patient" in caplog.text
    assert [i.split for i in found] == ["train", "train", "test", "test"]
    caplog.clear()
    found = list(adapter(tmp_path, splits="by-patient", split_shares=(1.0, 0.0, 0.0)).items())
    assert "separates" not in caplog.text
    assert [i.split for i in found] == ["train"] * 4


def test_who_is_whose_sibling():
    assert patient_of("x/group41-177.jpg") == patient_of("y/Group41-2.png") == "group41"
    assert patient_of("x/a-1.jpg") != patient_of("x/a-2.jpg")
    assert patient_of("x/1.jpg") != patient_of("y/1.jpg")  # numbers may restart in each folder


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fluorescein angiogram\nLate leakage.", "angiography"),
        ("Fluorescein Angiography shows leakage", "angiography"),
        ("drusen\nFA, late phase", "angiography"),
        ("drusen\nfa\n", "angiography"),
        ("ICG angiogram", "angiography"),
        ("Indocyanine green", "angiography"),
        ("amd\nColour fundus photograph of the left eye", "fundus"),
        ("Red-free photo", "fundus"),
        ("autofluorescence", "fundus"),
        ("Color photo; FA shows leakage", None),
        ("Soft drusen in a far corner, FAZ enlarged, do re mi fa sol", None),
        ("", None),
    ],
)
def test_what_the_words_name(text, named):
    assert modality_from_text(text) == named


def test_redness_is_that_of_the_lit_part():
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert redness(pixels) == 0
    pixels[:2] = (200, 90, 20)
    assert redness(pixels) == pytest.approx(180 / 200)
    assert redness(np.full((600, 700, 3), (90, 90, 90), np.uint8)) == 0
    assert redness(np.full((4, 4, 3), (20, 180, 30), np.uint8)) < 0  # a green tint


@pytest.mark.parametrize(
    ("named", "red", "modality"),
    [
        (None, 0.02, "angiography"), (None, 0.5, "fundus"),
        ("angiography", 0.02, "angiography"), ("angiography", 0.2, "angiography"),
        ("angiography", 0.5, "fundus"),  # its text speaks of a sibling
        ("fundus", 0.0, "fundus"), ("fundus", 0.5, "fundus"),
    ],
)  # fmt: skip
def test_words_decide_unless_the_picture_is_plainly_in_colour(named, red, modality):
    assert modality_of(named, red) == modality


def test_colour_pictures_and_angiograms_are_told_apart(tmp_path):
    grey, colour = (90, 90, 90), (200, 90, 20)
    pictures = {
        "a": (colour, "Soft drusen."),
        "b": (grey, "Hard drusen."),
        "c": (grey, "Red-free picture of drusen."),
        "group1-1": (colour, "FA shows leakage."),  # siblings share their text
        "group1-2": (grey, "FA shows leakage."),
        "d": ((120, 100, 90), "FA, late phase"),  # a tinted scan
    }
    value = []
    for name, (paint, text) in pictures.items():
        picture(tmp_path, f"{TRAIN}/{name}.png", paint)
        value.append({f"{TRAIN}/{name}.png": entry(description=text)})
    data = adapter(source(tmp_path, value))
    found = list(completed(data))
    assert [i.modality for i in found] == [
        "fundus", "angiography", "fundus", "fundus", "angiography", "angiography",
    ]  # fmt: skip
    assert found[0].prompt == "fundus image, Soft drusen."
    assert found[1].prompt == "fundus angiography image, Hard drusen."
    # Without having read the picture before, as a caller other than the ingest may do.
    assert [data.complete(item, str).modality for item in data.items()] == [
        item.modality for item in found
    ]
    for wanted in ("fundus", "angiography"):
        chosen = [outcome(i) for i in completed(adapter(tmp_path, modalities=(wanted,)))]
        assert chosen.count("modality-not-wanted") == 3
    with pytest.raises(RequestError, match="modalities"):
        adapter(tmp_path, modalities=())


def test_prompts_are_made_plain_and_redacted(tmp_path):
    texts = ("<p>Drusen of M&#101;yer.</p>", "Meyer", "Drusen\x1b")
    for name in "abc":
        picture(tmp_path, f"{TRAIN}/{name}.jpg")
    value = [
        {f"{TRAIN}/{name}.jpg": entry(description=text)}
        for name, text in zip("abc", texts, strict=True)
    ]
    data = adapter(source(tmp_path, value))
    first, second, third = completed(data, lambda text: text.replace("Meyer", "___"))
    assert first.prompt == "fundus image, Drusen of ___."
    assert (second.reason, third.reason) == ("no-prompt", "unreadable-report")


def test_a_worker_gets_no_entries(tmp_path):
    names = [f"{TRAIN}/{i}.jpg" for i in range(200)]
    picture(tmp_path, names[0])
    data = adapter(source(tmp_path, [{name: entry()} for name in names]))
    copy = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 2000
    sample = next(data.items())
    assert copy.complete(sample, str) == data.complete(sample, str)


def test_nothing_of_a_broken_file_is_quoted(tmp_path):
    with pytest.raises(RequestError) as caught:
        adapter(source(tmp_path, '[{"a.jpg": {"keywords": "secret" "x"}}]'))
    assert "secret" not in str(caught.value)
    with pytest.raises(RequestError, match="RecursionError"):
        adapter(source(tmp_path, "[" * 100_000))


WORD = st.text(max_size=6)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from(["keywords", "Keyword", "clinical-description", "description", "x"]), VALUE
)
NAMES = st.sampled_from([f"{TRAIN}/a.jpg", "train_set/b.jpg", f"{TRAIN}/gone.jpg"]) | WORD
OBJECTS = st.dictionaries(NAMES, FIELDS | VALUE, max_size=4)


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(value=OBJECTS | st.lists(OBJECTS, max_size=4) | VALUE, comma=st.booleans())
def test_any_json_is_accounted_for_or_refused(tmp_path_factory, value, comma):
    root = tmp_path_factory.mktemp("wild")
    for name in "abc":
        picture(root, f"{TRAIN}/{name}.jpg")
    text = json.dumps(value)
    text = text[:-1] + "," + text[-1] if comma and text[-1] in "]}" and len(text) > 2 else text
    source(root, text, [{f"{TRAIN}/c.jpg": entry()}], [{"x": entry("y")}])
    try:
        data = adapter(root, prompt="both")
    except RequestError:
        return
    found = list(completed(data))
    entries = [value] if isinstance(value, dict) else value
    named = 2 + sum(len(one) for one in entries)
    assert len(found) == data.num_items() >= max(named, 3)
    assert {f"{TRAIN}/{name}.jpg" for name in "abc"} <= {item.source for item in found}
    for item in found:
        assert item.reason and item.detail if isinstance(item, Exclusion) else item.prompt


@pytest.mark.real_data
def test_real_fundus_pictures(real_data):
    root = real_data / "fundus_open"
    on_disk = {
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.suffix in (".jpg", ".png", ".jpeg")
    }
    named = [
        name for path in root.glob("*.json") for one in json.loads(path.read_text()) for name in one
    ]
    data = adapter(root, prompt="both", min_keyword_count=3)
    found = list(completed(data))
    # Samples and exclusions are all files named in JSON and all others on disk.
    assert len(found) == data.num_items() == len(set(named) | on_disk) == 101
    assert {item.source for item in found} == on_disk
    # One healthy eye has neither keywords nor a description.
    assert [i.reason for i in found if isinstance(i, Exclusion)] == ["no-prompt"]
    samples = [item for item in found if isinstance(item, Sample)]
    assert {item.modality for item in samples} == {"fundus"}
    assert all(data.read(item).pixels.shape[2] == 3 for item in samples[::10])
