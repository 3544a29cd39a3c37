"""Any teacher as an extractor, and CheXGenBench's preprocessing, with small random teachers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import transforms
from transformers import AutoImageProcessor, Dinov2Model

from arra_med.config import PluginConfig, build
from arra_med.errors import RequestError
from arra_med.eval.evaluator import Fitted
from arra_med.eval.independence import objections
from arra_med.eval.inference import predict
from arra_med.eval.teacher_extractor import (
    CXGB_COMPAT,
    SquashFirst,
    TeacherExtractor,
    TeacherExtractorOptions,
)
from arra_med.images import encode_png
from arra_med.registry import TEACHERS
from tests.teachers import models

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dinov2Model]:
    folder = tmp_path_factory.mktemp("models") / "dinov2"
    return folder, models.save_dinov2(folder)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of small random weights for each teacher that is not fitted."""
    root = tmp_path_factory.mktemp("others")
    models.save_open_clip(root / "biomedclip", "vit_tiny_patch16_224")
    models.save_sam(root / "medsam")
    models.save_clip(root / "clip-l")
    models.save_timm(root / "timm", "vit_tiny_patch16_224", img_size=64, depth=3)
    models.save_dinov2(root / "transformers")
    return {path.name: path for path in root.iterdir()}


def options_of(name: str, weights: Path, **extra: Any) -> TeacherExtractorOptions:
    """As a configuration file gives them."""
    teacher = {"name": name, "weights": str(weights)}
    if name in ("timm", "transformers"):
        teacher["trained_on"] = "MIMIC-CXR, of all things"
    return build(TeacherExtractorOptions, {"teacher": teacher, **extra}, where="here")


@pytest.mark.parametrize("name", ["biomedclip", "medsam", "clip-l", "timm", "transformers"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_teacher_s_own_vectors(others, name, mode) -> None:
    options = options_of(name, others[name])
    extractor = TeacherExtractor(options)
    teacher = TEACHERS.get(name)(options.teacher.options)
    picture = models.picture(mode, 150, 150)
    pixels = extractor.transform(picture)[None]
    part = "mean" if name == "medsam" else "cls"
    with torch.inference_mode():
        features = extractor(pixels)
        assert torch.equal(features, teacher(teacher.transform(picture)[None])[part])
    assert features.shape == (1, extractor.dimension)
    digest = teacher.identity(options.teacher.options)["weights_sha256"]
    assert extractor.info.name == f"{name}/{part}@{digest[:8]}"
    stated = "MIMIC" in extractor.info.trained_on
    assert extractor.info.saw == (("mimic-cxr",) if stated else ())
    assert str(others[name]) not in json.dumps(TeacherExtractor.identity(options))


def test_aggregations(others, dinov2) -> None:
    folder, _ = dinov2
    cls, mean = (
        TeacherExtractor(options_of("rad-dino", folder, aggregation=a)) for a in ("cls", "mean")
    )
    pixels = cls.transform(models.picture("L"))[None]
    with torch.inference_mode():
        assert (cls(pixels) - mean(pixels)).abs().max() > 0.01
    assert cls.info.name != mean.info.name
    assert cls.info.saw == ("mimic-cxr",)
    wrong = options_of("medsam", others["medsam"], aggregation="cls")
    for use in (TeacherExtractor, TeacherExtractor.identity):
        with pytest.raises(RequestError, match=r"'cls', but teacher 'medsam'.*offers 'mean'"):
            use(wrong)


def test_features_are_cxgb_s_own(dinov2, tmp_path) -> None:
    """CheXGenBench's steps, by its libraries: squash to 299, [0, 1], uint8, RAD-DINO's processor on
    the batch, ``pooler_output``."""
    folder, model = dinov2
    extractor = TeacherExtractor(options_of("rad-dino", folder, squash=299))
    assert extractor.info.name.startswith(f"{CXGB_COMPAT}@")
    assert "299 px square" in extractor.info.preprocessing
    pictures = [models.picture("L", 320, 400), models.picture("RGB", 250, 200)]
    load = transforms.Compose([transforms.Resize((299, 299)), transforms.ToTensor()])
    batch = torch.stack([load(picture.convert("RGB")) for picture in pictures])
    inputs = AutoImageProcessor.from_pretrained(folder)(
        images=(batch * 255).to(torch.uint8), return_tensors="pt"
    )
    ours = torch.stack([extractor.transform(picture) for picture in pictures])
    assert torch.equal(ours, inputs["pixel_values"])
    with torch.inference_mode():
        expected = model(**inputs).pooler_output
        torch.testing.assert_close(extractor(ours), expected, rtol=1e-5, atol=1e-5)
        plain = TeacherExtractor(options_of("rad-dino", folder))
        again = torch.stack([plain.transform(picture) for picture in pictures])
        assert (plain(again) - expected).abs().max() > 0.01
    other = TeacherExtractor(options_of("rad-dino", folder, squash=64))
    assert other.info.name.startswith("rad-dino/cls/squash-64@")


def test_the_run_s_own_teacher_is_found_out(dinov2, others) -> None:
    """Requirement 6: by the weights' hash, whatever the options around it."""
    folder, _ = dinov2
    options = options_of("rad-dino", folder, squash=299)
    identity = {"plugin": "teacher", **TeacherExtractor.identity(options)}
    aligned = TEACHERS.get("rad-dino").identity(options.teacher.options)
    facts: dict[str, Any] = {"saw": (), "dataset": "table", "split": "test"}
    found = objections(identity, teacher=aligned, **facts)
    assert found == ["teacher has the weights of the teacher the run was aligned to"]
    other = options_of("clip-l", others["clip-l"])
    identity = {"plugin": "teacher", **TeacherExtractor.identity(other)}
    assert objections(identity, teacher=aligned, **facts) == []


def test_a_fitted_teacher_is_fitted_first(prepared, tmp_path) -> None:
    options = build(
        TeacherExtractorOptions,
        {"teacher": {"name": "linear", "weights": str(tmp_path / "linear"), "epochs": 1}},
        where="here",
    )
    assert issubclass(TeacherExtractor, Fitted)
    assert not TeacherExtractor.is_fitted(options)
    with pytest.raises(FileNotFoundError):
        TeacherExtractor.identity(options)
    TeacherExtractor.fit(options, prepared, CPU)
    assert TeacherExtractor.is_fitted(options)
    identity = TeacherExtractor.identity(options)
    assert identity["fitted_on"] == prepared.content_hash
    assert identity["fitted_splits"] == ["train"]
    pngs = list(prepared.images([row["key"] for row in prepared.rows("test")]).values())
    features = predict(
        TeacherExtractor(options), pngs, batch_size=3, device=CPU, what="features", workers=0
    )
    assert features.shape == (len(pngs), 64)


def test_published_teachers_are_not_fitted(dinov2) -> None:
    folder, _ = dinov2
    options = options_of("rad-dino", folder)
    assert TeacherExtractor.is_fitted(options)
    assert "fitted_on" not in TeacherExtractor.identity(options)


def test_an_encoder_of_unknown_origin_is_refused(others) -> None:
    silent = options_of("timm", others["timm"])
    inner = dataclasses.replace(
        silent.teacher.options, trained_on=TEACHERS.get("timm").Options.trained_on
    )
    silent = dataclasses.replace(silent, teacher=PluginConfig(name="timm", options=inner))
    for use in (TeacherExtractor, TeacherExtractor.identity):
        with pytest.raises(RequestError, match="set its option 'trained_on'"):
            use(silent)


def test_options_are_checked(dinov2) -> None:
    folder, _ = dinov2
    with pytest.raises(RequestError, match=r"squash must be"):
        options_of("rad-dino", folder, squash=0)
    with pytest.raises(RequestError, match=r"teacher: missing"):
        build(TeacherExtractorOptions, {}, where="here")


@pytest.mark.parametrize("name", ["biomedclip", "medsam", "clip-l", "timm", "transformers"])
def test_a_wrong_scale_raises_on_every_batch(others, name) -> None:
    """Requirement 4, where each picture is a float tensor already."""
    extractor = TeacherExtractor(options_of(name, others[name]))
    good = extractor.transform(models.picture("L"))[None]
    wrong = [
        (torch.rand(good.shape), "between those of grey levels"),
        ((good - good.min()) / (good.max() - good.min()), "between those of grey levels"),
        (good * 127.5 + 127.5, "expected pictures in"),
        (good * float("nan"), "expected pictures in"),
        (extractor.transform(Image.new("L", (50, 50), 1))[None], "cast to uint8"),
        (good.to(torch.uint8), "float32 of 'transform'"),
        (good.double(), "float32 of 'transform'"),
        (good[0], "float32 of 'transform'"),
    ]
    for pixels, message in wrong:
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                extractor(pixels)
    for picture in (models.picture("RGB"), Image.new("L", (50, 50), 0), Image.new("L", (9, 80), 9)):
        pixels = extractor.transform(picture)[None]
        assert extractor(pixels).isfinite().all()


def test_a_transform_that_stretches_each_picture(others) -> None:
    """MedSAM's ``min-max`` has no fixed levels: only its range can be checked."""
    options = build(
        TeacherExtractorOptions,
        {
            "teacher": {
                "name": "medsam",
                "weights": str(others["medsam"]),
                "normalization": "min-max",
            }
        },
        where="here",
    )
    extractor = TeacherExtractor(options)
    assert not extractor.stepped
    for level in ("L", "RGB"):
        pixels = extractor.transform(models.picture(level))[None]
        assert extractor(pixels).isfinite().all()
    for wrong in (pixels * 255, pixels * 2 - 1):
        with pytest.raises(ValueError, match="expected pictures in"):
            extractor(wrong)


def test_squash_is_a_picture_s_own(dinov2) -> None:
    first = SquashFirst(20, lambda picture: torch.tensor(picture.size))
    assert first(models.picture("L", 90, 50)).tolist() == [20, 20]
    grey = Image.new("L", (30, 10), 7)
    extractor = TeacherExtractor(options_of("rad-dino", dinov2[0], squash=31))
    pngs = [encode_png(torch.full((10, 30, 1), 7, dtype=torch.uint8).numpy())]
    features = predict(extractor, pngs, batch_size=1, device=CPU, what="features", workers=0)
    with torch.inference_mode():
        expected = extractor(extractor.transform(grey)[None])
    assert features.tolist() == expected.tolist()
