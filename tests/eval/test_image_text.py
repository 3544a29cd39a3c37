"""Every registered image-text encoder: one space, pixels checked, words understood."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.biomedclip_pair import BiomedClipPair, BiomedClipPairOptions
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.evaluator import EvaluatorInfo, Fitted
from arra_med.eval.fitted_pair import FittedPair, FittedPairOptions
from arra_med.eval.image_text import ImageTextEncoder
from arra_med.eval.independence import objections, ready_identity, weight_hashes
from arra_med.eval.inference import FolderPictures, predict
from arra_med.eval.text_alignment import PromptedPictures, own_first
from arra_med.eval.text_terms import Terms, frequent_terms
from arra_med.picture_loader import to_picture
from arra_med.registry import EXTRACTORS, IMAGE_TEXT_ENCODERS
from arra_med.schema import Sample
from arra_med.store import PreparedFolder, canonical_json
from arra_med.teachers.biomedclip import BiomedClip, BiomedClipOptions
from tests.prepared import save_prepared
from tests.teachers.models import SMALL_BERT, save_conversion, save_open_clip

CPU = torch.device("cpu")
KINDS = {"low": "bright lower half", "left": "bright left half", "none": "no abnormality"}
TEXTS = ["no effusion.", "Left  effusions\n", "", "right " * 40]


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    picture = rng.normal(90, 12, (32, 32, 1))
    picture[16:] += 70 * (kind == "low")
    picture[:, :16] += 70 * (kind == "left")
    return picture.clip(0, 255).astype(np.uint8)


def write(folder: Path, prompts: list[str], *, two_a_patient: bool = False) -> PreparedFolder:
    """One picture a prompt; what a prompt says is drawn. Two thirds are for training."""
    rng = np.random.default_rng(0)
    items = []
    for i, prompt in enumerate(prompts):
        kind = next((kind for kind, words in KINDS.items() if words in prompt), "none")
        patient = f"p{i // 2 if two_a_patient else i}"
        sample = Sample(
            key=f"{patient}/s{i}",
            patient_id=patient,
            study_id=f"s{i}",
            split="train" if i < len(prompts) * 2 / 3 else "test",
            view="PA",
            prompt=prompt,
            prompt_source="impression",
            labels={"Low": int(kind == "low"), "Left": int(kind == "left")},
            modality="cxr",
            source=f"{i}.png",
        )
        items.append((sample, draw(kind, rng)))
    return save_prepared(folder, items, part_size=64)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    said = list(KINDS.values())
    prompts = [f"PA view, {said[i % 3]}, case {i % 7}." for i in range(150)]
    return write(tmp_path_factory.mktemp("data") / "prepared", prompts)


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("models") / "biomedclip"
    reference = save_open_clip(folder, "vit_tiny_patch16_224")
    (folder / "config.json").write_text(json.dumps(SMALL_BERT))
    return folder, reference


@pytest.fixture(scope="module")
def options(
    biomedclip: tuple[Path, nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Of each registered encoder."""
    folder = tmp_path_factory.mktemp("fitted")
    cnn = CnnOptions(weights=folder / "judge", input_size=32, epochs=6, dimension=8)
    extractor = PluginConfig(name="cnn", options=cnn)
    return {
        "fitted": FittedPairOptions(weights=folder / "pair", extractor=extractor, topics=8),
        "biomedclip": BiomedClipPairOptions(weights=biomedclip[0]),
    }


@pytest.fixture(scope="module")
def identities(options: dict[str, Any], prepared: PreparedFolder) -> dict[str, dict[str, Any]]:
    """Of each, fitted first if it is to be."""
    return {
        name: ready_identity(
            PluginConfig(name=name, options=chosen), IMAGE_TEXT_ENCODERS, prepared, CPU
        )
        for name, chosen in options.items()
    }


@pytest.fixture(scope="module")
def opened(options: dict[str, Any], identities: dict[str, Any]) -> dict[str, ImageTextEncoder]:
    return {name: IMAGE_TEXT_ENCODERS.get(name)(options[name]) for name in identities}


def transformed(encoder: ImageTextEncoder, prepared: PreparedFolder, number: int) -> torch.Tensor:
    keys = [row["key"] for row in prepared.rows("test")][:number]
    return torch.stack(
        [encoder.transform(to_picture(png)) for png in prepared.images(keys).values()]
    )


@pytest.mark.parametrize("name", IMAGE_TEXT_ENCODERS.names())
def test_contract(
    name: str,
    opened: dict[str, ImageTextEncoder],
    options: dict[str, Any],
    identities: dict[str, dict[str, Any]],
    prepared: PreparedFolder,
) -> None:
    assert name in opened, "a new encoder needs options in this test"
    encoder, kind = opened[name], IMAGE_TEXT_ENCODERS.get(name)
    assert all(field.kw_only for field in dataclasses.fields(kind.Options))
    assert kind.Options.__dataclass_params__.frozen
    assert canonical_json(identities[name]) == canonical_json(
        {"plugin": name, **kind.identity(options[name])}
    )
    assert weight_hashes(identities[name])
    assert isinstance(encoder.info, EvaluatorInfo)
    assert encoder.info.name
    assert encoder.info.trained_on
    assert encoder.info.preprocessing
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    pickle.loads(pickle.dumps(encoder.transform))

    batch = transformed(encoder, prepared, 5)
    vectors = encoder(batch)
    assert vectors.shape == (5, encoder.dimension)
    assert vectors.dtype == torch.float32
    keys = [row["key"] for row in prepared.rows("test")][:5]
    rows = predict(encoder, FolderPictures(prepared, keys), batch_size=2, device=CPU, what=name)
    np.testing.assert_allclose(rows, vectors, atol=1e-4)

    texts = encoder.encode_texts(TEXTS)
    assert texts.vectors.shape == (4, encoder.dimension)
    assert texts.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(texts.vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode_texts([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(texts.vectors, alone, atol=1e-5)
    nothing = encoder.encode_texts([])
    assert nothing.vectors.shape == (0, encoder.dimension)
    assert nothing.truncated == 0
    assert texts.truncated == (0 if encoder.context is None else 1)


@pytest.mark.parametrize("name", IMAGE_TEXT_ENCODERS.names())
def test_pixels_on_another_scale_raise_on_every_batch(
    name: str, opened: dict[str, ImageTextEncoder], prepared: PreparedFolder
) -> None:
    encoder = opened[name]
    batch = transformed(encoder, prepared, 4)
    two_channels = torch.cat([batch, batch], dim=1)[:, :2]
    cast = (batch > batch.double().mean()).to(batch.dtype)  # in [0, 1]
    for _ in range(2):
        encoder(batch)
        for wrong in (torch.rand(batch.shape), batch.double(), two_channels, batch[0], cast):
            with pytest.raises(ValueError, match="expected"):
                encoder(wrong)


def test_biomedclip_equals_open_clip(
    biomedclip: tuple[Path, nn.Module],
    opened: dict[str, ImageTextEncoder],
    prepared: PreparedFolder,
) -> None:
    folder, reference = biomedclip
    encoder = opened["biomedclip"]
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**reference.visual.preprocess_cfg), is_train=False
    )
    keys = [row["key"] for row in prepared.rows("test")][:3]
    pictures = [to_picture(png) for png in prepared.images(keys).values()]
    theirs = torch.stack([transform(picture) for picture in pictures])
    ours = torch.stack([encoder.transform(picture) for picture in pictures])
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.inference_mode():
        images = reference.encode_image(theirs)
        texts = reference.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encoder(ours), images, atol=1e-5, rtol=1e-5)
    read = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(read.vectors, texts, atol=1e-5)
    assert (encoder.context, encoder.dimension, read.truncated) == (16, 512, 1)
    assert images.std() > 0.1


def test_both_published_formats_give_the_same(
    biomedclip: tuple[Path, nn.Module],
    opened: dict[str, ImageTextEncoder],
    prepared: PreparedFolder,
    tmp_path: Path,
) -> None:
    folder, model = biomedclip
    other = save_conversion(tmp_path / "conversion", folder, model, SMALL_BERT)
    converted = BiomedClipPair(BiomedClipPairOptions(weights=other))
    batch = transformed(converted, prepared, 3)
    torch.testing.assert_close(converted(batch), opened["biomedclip"](batch), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(
        converted.encode_texts(TEXTS[:3]).vectors,
        opened["biomedclip"].encode_texts(TEXTS[:3]).vectors,
        atol=1e-5,
    )
    assert converted.context == 256


def test_biomedclip_is_known_as_the_teacher_it_shares_weights_with(
    biomedclip: tuple[Path, nn.Module], identities: dict[str, dict[str, Any]]
) -> None:
    """Under whatever name the encoder is registered, projected or not."""
    against = {"dataset": "mimic-cxr", "split": "test"}
    for projected in (False, True):
        chosen = BiomedClipOptions(weights=biomedclip[0], projected=projected)
        teacher = BiomedClip.identity(chosen)
        renamed = identities["biomedclip"] | {"plugin": "ours"}
        assert "weights of the teacher" in objections(renamed, teacher=teacher, **against)[0]
    other = {"name": "medsam", "weights_sha256": "0" * 64}
    assert objections(identities["biomedclip"], teacher=other, **against) == []


def test_the_fitted_encoder_finds_the_words_that_a_picture_shows(
    opened: dict[str, ImageTextEncoder], prepared: PreparedFolder
) -> None:
    rows = prepared.rows("test")
    vectors = predict(
        opened["fitted"],
        FolderPictures(prepared, [row["key"] for row in rows]),
        batch_size=8,
        device=CPU,
        what="test",
    )
    said = list(KINDS.values())
    texts = opened["fitted"].encode_texts([f"PA view, {words}." for words in said]).vectors
    chosen = (vectors @ texts.T).argmax(axis=1)
    asked = [said.index(row["prompt"].split(", ")[1]) for row in rows]
    assert (chosen == asked).mean() > 0.9


def test_real_pictures_find_their_prompts_above_chance(
    opened: dict[str, ImageTextEncoder], prepared: PreparedFolder
) -> None:
    """Prompts of three kinds and seven case numbers, which no picture shows: 3 of 9 rivals tie."""
    rows = prepared.rows("test")
    vectors = predict(
        opened["fitted"],
        FolderPictures(prepared, [row["key"] for row in rows]),
        batch_size=64,
        device=CPU,
        what="test",
    )
    texts = opened["fitted"].encode_texts([row["prompt"] for row in rows]).vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = PromptedPictures(
        generated=unit, real=unit, texts=texts, prompts=[row["prompt"] for row in rows],
        patients=[row["patient_id"] for row in rows],
    )  # fmt: skip
    found = own_first(unit.astype(float), texts.astype(float), pairs)
    assert 0.2 < np.mean(found) < 0.6


def test_the_fitted_encoder_is_as_independent_as_its_extractor(
    identities: dict[str, dict[str, Any]],
) -> None:
    identity = identities["fitted"]
    free: dict[str, Any] = {"teacher": None, "dataset": "fixture", "split": "test"}
    assert objections(identity, **free) == []
    teacher = {"name": "linear", "weights_sha256": identity["extractor"]["weights_sha256"]}
    assert "weights of the teacher" in objections(identity, **free | {"teacher": teacher})[0]
    assert "fitted on the train split" in objections(identity, **free | {"split": "train"})[0]


def test_the_same_options_give_the_same_weights(
    options: dict[str, Any],
    identities: dict[str, dict[str, Any]],
    prepared: PreparedFolder,
    tmp_path: Path,
) -> None:
    again = dataclasses.replace(options["fitted"], weights=tmp_path / "again")
    FittedPair.fit(again, prepared, CPU)
    first = identities["fitted"]
    assert FittedPair.identity(again)["weights_sha256"] == first["weights_sha256"]
    fewer = dataclasses.replace(options["fitted"], weights=tmp_path / "fewer", pictures=40)
    FittedPair.fit(fewer, prepared, CPU)
    assert "(40 real pictures" in FittedPair(fewer).info.trained_on


def test_weights_that_are_missing_damaged_or_of_another_fit(
    options: dict[str, Any], identities: dict[str, Any], prepared: PreparedFolder, tmp_path: Path
) -> None:
    fitted: FittedPairOptions = options["fitted"]
    assert FittedPair.is_fitted(fitted)
    nowhere = dataclasses.replace(fitted, weights=tmp_path / "none")
    assert not FittedPair.is_fitted(nowhere)
    with pytest.raises(FileNotFoundError, match="'arra-med evaluate' fits it"):
        FittedPair(nowhere)
    with pytest.raises(RequestError, match="asked for"):
        FittedPair.identity(dataclasses.replace(fitted, topics=4))
    other = dataclasses.replace(fitted.extractor.options, weights=tmp_path / "judge", seed=1)
    plugin = PluginConfig(name="cnn", options=other)
    ready_identity(plugin, EXTRACTORS, prepared, CPU)
    with pytest.raises(RequestError, match="extractor"):
        FittedPair.identity(dataclasses.replace(fitted, extractor=plugin))
    for file, old, new in (
        ("model.safetensors", None, None),
        ("config.json", '"bright"', '"blight"'),
    ):
        copy = tmp_path / file
        shutil.copytree(fitted.weights, copy)
        path = copy / file
        if old is None:
            path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        else:
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        with pytest.raises(RequestError, match="fits it again"):
            FittedPair(dataclasses.replace(fitted, weights=copy))


def test_a_fit_needs_prompts_that_differ(options: dict[str, Any], tmp_path: Path) -> None:
    dull = write(tmp_path / "dull", ["no abnormality"] * 30)
    chosen = dataclasses.replace(options["fitted"], weights=tmp_path / "pair")
    with pytest.raises(RequestError, match="20 training prompts do not differ in words"):
        FittedPair.fit(chosen, dull, CPU)
    with pytest.raises(ValueError, match="must be positive: topics"):
        dataclasses.replace(chosen, topics=0)


def test_words_of_few_patients_are_not_kept() -> None:
    """Six prompts of two patients name somebody: the name is in no file."""
    texts = ["seen by Miller ___ 12"] * 6 + ["clear lungs", "lungs seen", "XXXX clear lungs"]
    patients = ["a"] * 3 + ["b"] * 3 + ["c", "d", "e"]
    assert frequent_terms(texts, patients, least=3) == ["lungs", "seen"]
    assert frequent_terms(["", "7"], ["a", "b"], least=1) == []


def test_terms_are_weighted_as_stated() -> None:
    terms = Terms(["clear", "clear lungs", "lungs"])
    idf = terms.fit(["clear lungs", "lungs", "heart", "clear lungs"])
    expected = np.log(5 / (1 + np.array([2, 2, 3]))) + 1
    np.testing.assert_allclose(idf, expected)
    read = Terms(["clear", "clear lungs", "lungs"], idf)(["clear lungs", "heart"]).toarray()
    np.testing.assert_allclose(read[0], expected / np.linalg.norm(expected))
    assert not read[1].any()


def test_fitted_is_a_fitted_plugin() -> None:
    assert issubclass(FittedPair, Fitted)
    assert not issubclass(BiomedClipPair, Fitted)
