import hashlib
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arra_med.datasets import conversations_write
from arra_med.datasets.base import Excluded
from arra_med.datasets.conversations import IMAGE_MARK, Conversations, read_item
from arra_med.datasets.conversations_write import write_conversations
from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.schema import CHEXPERT_LABELS, Exclusion, Sample
from tests.prepared import save_prepared


def item(prompt, *images, answer=None):
    value = "<|image|>" * len(images) if answer is None else answer
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": value}]
    return {"conversations": turns} | ({"image": list(images)} if images else {})


def write(path, items):
    path.write_text(json.dumps(items))
    return path


@pytest.fixture
def root(tmp_path):
    for name in ("files/p10/p10000032/s50414267/x.jpg", "a b.png", "a-b.png", "c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7)).save(path)
    return tmp_path


NAME_WITH_SPACE = "a-b-" + hashlib.sha256(b"a b.png").hexdigest()[:8]


def outcomes(adapter):
    return [i.key if isinstance(i, Sample) else i.reason for i in adapter.items()]


def test_every_picture_and_every_item_is_accounted_for(root):
    name = "files/p10/p10000032/s50414267/x.jpg"
    path = write(
        root / "train.json",
        [
            item("PA view chest x-ray image,\n clear.", name),
            item("What is an effusion?", answer="Fluid."),
            item("two", "c.png", "a b.png"),
            item("marks", "c.png", answer="<|image|><|image|>"),
            item("marks without picture", answer="<|image|>"),
            item("What is this? <|image|>", "c.png", answer="A film."),
            item(" ... ", "c.png"),
            item("gone", "gone.png"),
            item("out", "../secret.png"),
            {"image": ["c.png"]},
            "text",
            item("absolute", str(root / "c.png")),
            item("again", "c.png"),
        ],
    )
    adapter = Conversations(Conversations.Options(files={"train": path}))
    assert outcomes(adapter) == [
        "files/p10/p10000032/s50414267/x", "text-only", "c", NAME_WITH_SPACE,
        "marks-and-images-differ", "marks-and-images-differ", "image-is-input", "no-prompt",
        "missing-image", "outside-image-root", "malformed-item", "malformed-item",
        "duplicate-key", "duplicate-key",
    ]  # fmt: skip
    assert adapter.num_items() == 14
    assert [i.prompt for i in adapter.items() if isinstance(i, Sample)][1:] == ["two", "two"]
    sample = adapter.complete(next(iter(adapter.items())), str)
    assert (sample.patient_id, sample.study_id) == ("10000032", "50414267")
    assert sample.prompt == "PA view chest x-ray image, clear."
    assert sample.labels == dict.fromkeys(CHEXPERT_LABELS)
    assert adapter.read(sample).pixels.shape == (5, 7)


def test_names_that_differ_in_odd_characters_keep_different_keys(root):
    path = write(root / "train.json", [item("one", "a b.png"), item("two", "a-b.png")])
    keys = outcomes(Conversations(Conversations.Options(files={"train": path})))
    assert keys[0].startswith("a-b-")
    assert keys[1] == "a-b"


def test_files_are_splits_or_are_cut_by_patient(root):
    files = {
        "test": write(root / "b.json", [item("b", "c.png")]),
        "train": write(root / "a.json", [item("a", "a b.png")]),
    }
    found = list(Conversations(Conversations.Options(files=files)).items())
    assert [(i.prompt, i.split) for i in found] == [("a", "train"), ("b", "test")]
    cut = Conversations.Options(files=files, split_shares=(0.0, 1.0, 0.0))
    assert {i.split for i in Conversations(cut).items()} == {"validate"}


@pytest.mark.parametrize("extra", [{}, {"patient_id": "7", "study_id": "s"}], ids=["none", "given"])
def test_pictures_of_one_item_are_of_one_patient(root, extra):
    items = []
    for number in range(30):
        names = [f"{number}-front.png", f"{number}-side.png"]
        for name in names:
            shutil.copy(root / "c.png", root / name)
        own = {name: f"{value}-{number}" for name, value in extra.items()}
        items.append(item(f"film {number}", *names) | own)
    path = write(root / "pairs.json", items)
    shares = Conversations.Options(files={"train": path}, split_shares=(0.5, 0.2, 0.3))
    found = list(Conversations(shares).items())
    assert len(found) == 60
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert all((a.patient_id, a.study_id) == (b.patient_id, b.study_id) for a, b in pairs)
    assert all(a.split == b.split and a.key != b.key for a, b in pairs)
    assert len({a.patient_id for a, _ in pairs}) == 30
    if extra:
        assert pairs[0][0].patient_id == "7-0"


def test_numbers_name_patients_too(root):
    items = [item("a", "a b.png") | {"patient_id": 1000}, item("b", "c.png") | {"patient_id": 1000}]
    items += [
        item("c", "a-b.png") | {"patient_id": ["x"]},
        item("d", "a-b.png") | {"study_id": None},
        item("e", "files/p10/p10000032/s50414267/x.jpg") | {"patient_id": 7.0, "study_id": "nan"},
    ]
    path = write(root / "a.json", items)
    found = list(Conversations(Conversations.Options(files={"train": path})).items())
    assert [sample.patient_id for sample in found[:2]] == ["1000", "1000"]
    assert (found[2].reason, found[2].detail) == (
        "malformed-item", "its patient_id is neither text nor a whole number"
    )  # fmt: skip
    assert found[3].study_id == "a-b"
    assert (found[4].patient_id, found[4].study_id) == ("7", "50414267")


def test_bad_requests(tmp_path):
    with pytest.raises(RequestError, match="at least one"):
        Conversations.Options(files={})
    with pytest.raises(FileNotFoundError, match="no conversations file"):
        Conversations(Conversations.Options(files={"train": tmp_path / "none.json"}))
    with pytest.raises(RequestError, match="expected a list"):
        Conversations(Conversations.Options(files={"train": write(tmp_path / "a.json", {})}))


def test_several_pictures_can_be_left_out(root):
    path = write(root / "train.json", [item("two", "c.png", "a b.png"), item("one", "a-b.png")])
    options = Conversations.Options(files={"train": path}, several_images="exclude")
    assert outcomes(Conversations(options)) == ["several-images", "several-images", "a-b"]
    assert Conversations(options).num_items() == 3


def test_questions_are_made_plain_and_redacted(root):
    asked = [
        item("<p>Film of M&#101;yer.</p>", "c.png"),
        item("Meyer", "a-b.png"),
        item("Film\0", "a b.png"),
    ]
    path = write(root / "train.json", asked)
    adapter = Conversations(Conversations.Options(files={"train": path}))
    first, second, third = adapter.items()

    def redact(text):
        return text.replace("Meyer", "___")

    assert adapter.complete(first, redact).prompt == "Film of ___."
    with pytest.raises(Excluded, match="no-prompt"):
        adapter.complete(second, redact)
    with pytest.raises(Excluded, match="unreadable-report"):
        adapter.complete(third, redact)


def a_prepared_folder(folder, channels=1, key="p{0:02d}/s{0}/i.{0}"):
    rng = np.random.default_rng(0)
    items = []
    for index in range(40):
        sample = Sample(
            key=key.format(index),
            patient_id=f"patient {index // 2}",
            study_id=f"s{index}",
            split=("train", "validate", "test")[index % 3 if index else 0],
            view=("PA", None)[index % 2],
            prompt=f"PA view chest x-ray image, “Röntgen” {index}.",
            prompt_source="impression",
            labels=dict.fromkeys(CHEXPERT_LABELS),
            modality="cxr",
            source=f"{index}.png",
        )
        items.append((sample, rng.integers(0, 256, (8, 8, channels)).astype(np.uint8)))
    return save_prepared(folder, items)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_reads_back_the_same(tmp_path, channels):
    prepared = a_prepared_folder(tmp_path / "prepared", channels)
    output = write_conversations(prepared.folder, tmp_path / "out" / "arra")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["arra"]
    adapter = Conversations(
        Conversations.Options(
            files={split: output / f"{split}.json" for split in ("train", "validate", "test")},
            channels=channels,
        )
    )
    found = {i.key: adapter.complete(i, str) for i in adapter.items()}
    assert adapter.num_items() == len(found) == len(prepared.keys) == 40
    pictures = dict(prepared.iter_images())
    for row in prepared.rows():
        sample = found[row["key"]]
        for name in ("key", "prompt", "split", "patient_id", "study_id", "view"):
            assert getattr(sample, name) == row[name]
        expected = decode_png(pictures[row["key"]])
        pixels = adapter.read(sample).pixels
        assert np.array_equal(pixels.reshape(expected.shape), expected)


def test_the_format_is_arra_s(tmp_path):
    output = write_conversations(a_prepared_folder(tmp_path / "prepared").folder, tmp_path / "out")
    first = json.loads((output / "train.json").read_text(encoding="utf-8"))[0]
    assert first == {
        "conversations": [
            {"from": "human", "value": "PA view chest x-ray image, “Röntgen” 0."},
            {"from": "gpt", "value": IMAGE_MARK},
        ],
        "image": ["p00/s0/i.0.png"],
        "patient_id": "patient 0",
        "study_id": "s0",
        "view": "PA",
    }
    assert (output / "p00/s0/i.0.png").read_bytes()[:4] == b"\x89PNG"


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    prepared = a_prepared_folder(tmp_path / "prepared")
    real, calls = conversations_write.conversation, []

    def failing(row):
        calls.append(row)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(row)

    monkeypatch.setattr(conversations_write, "conversation", failing)
    with pytest.raises(KeyboardInterrupt):
        write_conversations(prepared.folder, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["prepared"]


def test_exports_that_would_lose_something_are_refused(tmp_path):
    prepared = a_prepared_folder(tmp_path / "prepared")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RequestError, match="exists already"):
        write_conversations(prepared.folder, tmp_path / "full")
    with pytest.raises(FileNotFoundError):
        write_conversations(tmp_path / "none", tmp_path / "out")
    row = prepared.row(prepared.keys[0])
    for prompt in ("a  b", f"draw {IMAGE_MARK}"):
        with pytest.raises(RequestError, match=r"p00/s0/i\.0 holds"):
            conversations_write.conversation(row | {"prompt": prompt})


def test_a_picture_that_would_have_to_be_a_folder_is_refused(tmp_path):
    prepared = a_prepared_folder(tmp_path / "prepared", key="a.png/{0}")
    assert write_conversations(prepared.folder, tmp_path / "fine").is_dir()
    prepared.keys.append("a")
    with pytest.raises(RequestError, match="would need one name"):
        conversations_write._check_keys(prepared)


TEXT = st.text(max_size=8) | st.sampled_from(
    [IMAGE_MARK, f"x {IMAGE_MARK}", "human", "gpt", "c.png"]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
TURN = st.fixed_dictionaries({"from": TEXT, "value": TEXT}) | VALUE
ITEM = st.fixed_dictionaries(
    {"conversations": st.lists(TURN, max_size=3)}, optional={"image": st.lists(TEXT) | VALUE}
)


@given(value=ITEM | VALUE)
def test_every_item_has_an_outcome(value):
    found = read_item(value)
    assert found
    assert all(asked.problem or asked.prompt for asked in found)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(items=st.lists(ITEM | VALUE, max_size=4))
def test_any_json_list_is_accounted_for(tmp_path_factory, items):
    root = tmp_path_factory.mktemp("wild")
    Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7)).save(root / "c.png")
    adapter = Conversations(Conversations.Options(files={"train": write(root / "a.json", items)}))
    found = list(adapter.items())
    assert len(found) == adapter.num_items() >= len(items)
    assert all(i.reason and i.detail for i in found if isinstance(i, Exclusion))
