import json

import numpy as np
import pytest
from PIL import Image

from arra_med.datasets.conversations import Conversations
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, Sample


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
        Image.fromarray(np.full((5, 7), 9, np.uint8)).save(path)
    return tmp_path


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
        "files/p10/p10000032/s50414267/x", "text-only", "several-images", "several-images",
        "marks-and-images-differ", "marks-and-images-differ", "image-is-input", "no-prompt",
        "missing-image", "outside-image-root", "malformed-item", "malformed-item", "c",
        "duplicate-key",
    ]  # fmt: skip
    sample = next(iter(adapter.items()))
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


def test_bad_requests(tmp_path):
    with pytest.raises(RequestError, match="at least one"):
        Conversations.Options(files={})
    with pytest.raises(FileNotFoundError, match="no conversations file"):
        Conversations(Conversations.Options(files={"train": tmp_path / "none.json"}))
    with pytest.raises(RequestError, match="expected a list"):
        Conversations(Conversations.Options(files={"train": write(tmp_path / "a.json", {})}))
