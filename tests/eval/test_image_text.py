"""Every registered image-text encoder: vectors of length 1, pixels checked, words understood."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.biomedclip_pair import BiomedClipPair
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.fitted_pair import FittedPair, FittedPairOptions
from arra_med.eval.independence import objections, ready_identity
from arra_med.eval.inference import FolderPictures, predict
from arra_med.images import encode_png
from arra_med.picture_loader import to_picture
from arra_med.registry import IMAGE_TEXT_ENCODERS
from arra_med.schema import Sample
from arra_med.teachers.biomedclip import BiomedClip, BiomedClipOptions
from arra_med.teachers.biomedclip_text import BiomedClipTextOptions
from tests.prepared import save_prepared
from tests.teachers.models import SMALL_BERT, save_open_clip

CPU = torch.device("cpu")
WORDS = {"low": "bright lower half", "left": "bright left half", "none": "no abnormality"}


def draw(kind, rng):
    picture = rng.normal(90, 12, (32, 32, 1))
    picture[16:] += 70 * (kind == "low")
    picture[:, :16] += 70 * (kind == "left")
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    rng = np.random.default_rng(0)
    items = []
    for i in range(150):
        kind = list(WORDS)[i % 3]
        labels = {"Low": int(kind == "low"), "Left": int(kind == "left")}
        sample = Sample(
            key=f"p{i}/s", patient_id=f"p{i}", study_id=f"s{i}",
            split="train" if i < 100 else "validate" if i < 120 else "test", view="PA",
            prompt=f"PA view, {WORDS[kind]}, patient {i % 7}.", prompt_source="impression",
            labels=labels, modality="cxr", source="x",
        )  # fmt: skip
        items.append((sample, draw(kind, rng)))
    return save_prepared(tmp_path_factory.mktemp("data") / "prepared", items, part_size=64)


@pytest.fixture(scope="module")
def fitted(prepared, tmp_path_factory):
    """Options of the fitted encoder on a fitted extractor; both are fitted when they are asked."""
    folder = tmp_path_factory.mktemp("fitted")
    cnn = CnnOptions(weights=folder / "judge", input_size=32, epochs=6, dimension=8)
    plugin = PluginConfig(name="cnn", options=cnn)
    options = FittedPairOptions(weights=folder / "pair", extractor=plugin, dimension=8)
    mine = PluginConfig(name="fitted", options=options)
    return options, ready_identity(mine, IMAGE_TEXT_ENCODERS, prepared, CPU)


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "biomedclip"
    reference = save_open_clip(folder, "vit_tiny_patch16_224")
    (folder / "config.json").write_text(json.dumps(SMALL_BERT))
    return folder, reference


def encoders(fitted, biomedclip):
    return {
        "fitted": FittedPair(fitted[0]),
        "biomedclip": BiomedClipPair(BiomedClipTextOptions(weights=biomedclip[0])),
    }


def test_all_that_are_registered_give_unit_vectors_and_refuse_other_pixels(
    fitted, biomedclip, prepared
):
    made = encoders(fitted, biomedclip)
    assert set(made) == set(IMAGE_TEXT_ENCODERS.names()), "a new one needs a place in this test"
    keys = [row["key"] for row in prepared.rows("test")][:5]
    for name, encoder in made.items():
        texts = encoder.encode_texts(["PA view, bright left half.", "no abnormality"])
        pictures = predict(
            encoder, FolderPictures(prepared, keys), batch_size=2, device=CPU, what=name
        )
        assert texts.vectors.shape == (2, pictures.shape[1])
        np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-5)
        torch.testing.assert_close(texts.vectors.norm(dim=1), torch.ones(2))
        assert encoder.encode_texts([]).vectors.shape == (0, pictures.shape[1])
        assert encoder.info.name
        assert encoder.info.trained_on
        batch = torch.stack([encoder.transform(p) for p in _pictures(prepared, keys)])
        for _ in range(2):  # on every batch, not once
            with pytest.raises(ValueError, match="expected"):
                encoder(torch.rand(batch.shape))


def _pictures(prepared, keys):
    return [to_picture(png) for png in prepared.images(keys).values()]


def test_the_fitted_encoder_prefers_the_words_that_a_picture_shows(fitted, prepared):
    encoder = FittedPair(fitted[0])
    rows = prepared.rows("test")
    vectors = predict(
        encoder, FolderPictures(prepared, [row["key"] for row in rows]), batch_size=8, device=CPU,
        what="test",
    )  # fmt: skip
    texts = encoder.encode_texts([f"PA view, {words}." for words in WORDS.values()]).vectors
    chosen = (vectors @ texts.numpy().T).argmax(axis=1)
    asked = [list(WORDS.values()).index(row["prompt"].split(", ")[1]) for row in rows]
    assert (chosen == asked).mean() > 0.9


def test_the_fitted_encoder_is_as_independent_as_its_extractor(fitted, prepared):
    options, identity = fitted
    free = {"teacher": None, "dataset": "fixture", "split": "test"}
    assert objections(identity, **free) == []
    teacher = {"name": "linear", "weights_sha256": identity["extractor"]["weights_sha256"]}
    assert "weights of the teacher" in objections(identity, **free | {"teacher": teacher})[0]
    assert "fitted on the train split" in objections(identity, **free | {"split": "train"})[0]
    with pytest.raises(RequestError, match="options"):
        FittedPair.identity(
            FittedPairOptions(weights=options.weights, extractor=options.extractor, dimension=4)
        )


def test_a_fit_needs_prompts_that_differ(prepared, tmp_path, fitted):
    rng = np.random.default_rng(0)
    items = [
        (
            Sample(
                key=f"p{i}", patient_id=f"p{i}", study_id="s", split="train", view=None,
                prompt="the same", prompt_source="x", labels={"Low": i % 2}, modality="cxr",
                source="x",
            ),
            draw("none", rng),
        )
        for i in range(30)
    ]  # fmt: skip
    dull = save_prepared(tmp_path / "dull", items)
    options = FittedPairOptions(weights=tmp_path / "pair", extractor=fitted[0].extractor)
    with pytest.raises(RequestError, match="1 of them different"):
        FittedPair.fit(options, dull, CPU)


def test_biomedclip_equals_open_clip_and_is_known_as_the_teacher(biomedclip):
    folder, reference = biomedclip
    encoder = BiomedClipPair(BiomedClipTextOptions(weights=folder))
    rng = np.random.default_rng(1)
    pngs = [encode_png(rng.integers(0, 256, (64, 64, 1), dtype=np.uint8)) for _ in range(3)]
    pixels = torch.stack([encoder.transform(to_picture(png)) for png in pngs])
    texts = ["no effusion", "left effusion"]
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    with torch.inference_mode():
        torch.testing.assert_close(
            encoder(pixels), reference.encode_image(pixels, normalize=True), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            encoder.encode_texts(texts).vectors,
            reference.encode_text(tokens, normalize=True),
            atol=1e-5,
            rtol=1e-5,
        )
    identity = {
        "plugin": "biomedclip",
        **BiomedClipPair.identity(BiomedClipTextOptions(weights=folder)),
    }
    teacher = BiomedClip.identity(BiomedClipOptions(weights=folder))
    reasons = objections(identity, teacher=teacher, dataset="mimic-cxr", split="test")
    assert "weights of the teacher" in reasons[0]


def test_weights_of_another_fit_are_found_out(fitted, tmp_path):
    options, _ = fitted
    copy = tmp_path / "pair"
    shutil.copytree(options.weights, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    damaged = FittedPairOptions(weights=copy, extractor=options.extractor, dimension=8)
    with pytest.raises(RequestError, match=r"is not the file that config\.json describes"):
        FittedPair(damaged)
    missing = FittedPairOptions(weights=Path(tmp_path / "none"), extractor=options.extractor)
    with pytest.raises(FileNotFoundError, match="'arra-med evaluate' fits it"):
        FittedPair(missing)
