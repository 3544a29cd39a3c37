"""Requirements 6 and 7: a linear judge on an extractor, as independent as the extractor is."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from arra_med.config import PluginConfig, build
from arra_med.errors import RequestError
from arra_med.eval import probe
from arra_med.eval.evaluator import EvaluatorInfo
from arra_med.eval.extractor import Extractor
from arra_med.eval.independence import objections, ready_identity
from arra_med.eval.inference import FolderPictures, check_pictures, predict
from arra_med.eval.judge_cnn import CnnExtractor, CnnOptions
from arra_med.eval.probe import ProbeJudge, ProbeOptions
from arra_med.registry import EXTRACTORS, JUDGES
from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """``sha256`` stands for a file's."""

    sha256: str = "aa"


class Grid(Extractor):
    """Means over a 4 × 4 grid, as floats from its own transform, and one constant feature."""

    Options = GridOptions
    dimension = 17
    info = EvaluatorInfo(
        name="grid-4",
        trained_on="nothing",
        input_size=4,
        preprocessing="box average",
        saw=("mimic-cxr",),
    )

    def __init__(self, options: GridOptions) -> None:
        super().__init__()

    @classmethod
    def identity(cls, options: GridOptions) -> dict[str, str]:
        return {"weights": options.sha256}

    def forward(self, images: Tensor) -> Tensor:
        check_pictures(images)
        means = torch.nn.functional.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), 4)
        return torch.nn.functional.pad(means.flatten(1), (0, 1), value=3.0)


@pytest.fixture(autouse=True)
def _grid(monkeypatch: pytest.MonkeyPatch) -> None:
    EXTRACTORS.names()  # third parties' are read once, before the table is changed
    monkeypatch.setitem(EXTRACTORS._targets, "grid", f"{__name__}:Grid")


def options(folder: Path, *, sha256: str = "aa", **kwargs: object) -> ProbeOptions:
    plugin = PluginConfig(name="grid", options=GridOptions(sha256=sha256))
    return ProbeOptions(weights=folder, extractor=plugin, **({"min_positives": 4} | kwargs))


@pytest.fixture
def fitted(tmp_path: Path, prepared: PreparedFolder) -> ProbeOptions:
    chosen = options(tmp_path / "probe")
    ProbeJudge.fit(chosen, prepared, CPU)
    return chosen


def judged(chosen: ProbeOptions, prepared: PreparedFolder, rows: list[dict]) -> np.ndarray:
    source = FolderPictures(prepared, [row["key"] for row in rows])
    return predict(ProbeJudge(chosen), source, batch_size=5, device=CPU, what="judge", workers=0)


def test_it_is_a_judge_of_the_registry_with_an_extractor_of_its_own(tmp_path: Path) -> None:
    assert JUDGES.get("probe") is ProbeJudge
    tree = {"weights": str(tmp_path), "extractor": {"name": "grid"}, "regularisation": 1}
    assert build(ProbeOptions, tree, where="a test") == ProbeOptions(
        weights=tmp_path,
        extractor=PluginConfig(name="grid", options=GridOptions()),
        regularisation=1.0,
    )
    with pytest.raises(RequestError, match=r"extractor: missing"):
        build(ProbeOptions, {"weights": str(tmp_path)}, where="a test")


def test_it_equals_scikit_learn_on_standardised_features(
    fitted: ProbeOptions, prepared: PreparedFolder
) -> None:
    rows, test = prepared.rows("train"), prepared.rows("test")
    judge = ProbeJudge(fitted)
    assert judge.findings == ("Cardiomegaly", "Pleural Effusion")
    outputs = judged(fitted, prepared, test)
    features = {
        name: predict(Grid(GridOptions()), FolderPictures(prepared, [r["key"] for r in part]),
                      batch_size=7, device=CPU, what="f", workers=0).astype(np.float64)
        for name, part in (("train", rows), ("test", test))
    }  # fmt: skip
    mean, std = features["train"].mean(axis=0), features["train"].std(axis=0)
    std[-1] = 1  # the constant feature
    for column, finding in enumerate(judge.findings):
        labels = [row["labels"][finding] for row in rows]
        model = LogisticRegression(C=0.1).fit((features["train"] - mean) / std, labels)
        expected = model.predict_proba((features["test"] - mean) / std)[:, 1]
        np.testing.assert_allclose(outputs[:, column], expected, atol=1e-4)
        assert roc_auc_score([row["labels"][finding] for row in test], outputs[:, column]) > 0.9


def test_uncertain_and_unknown_labels_do_not_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = ([1, 0] * 12 + [-1, None] * 6) * 2
    items = []
    for i, value in enumerate(label):
        # pictures without a label are bright where those with it are dark
        level = {1: 200, 0: 50}.get(value, 250 if i % 4 else 0)
        sample = Sample(
            key=f"k{i}", patient_id=f"p{i}", study_id=f"s{i}", split="train", view=None,
            prompt="fundus image, drusen.", prompt_source="keywords", modality="fundus",
            labels={"drusen": value, "scar": 0, "rare": int(i < 3)}, source=f"{i}.png",
        )  # fmt: skip
        items.append((sample, rng.normal(level, 5, (8, 8, 3)).clip(0, 255).astype(np.uint8)))
    prepared = save_prepared(tmp_path / "all", items)
    known = [item for item in items if item[0].labels["drusen"] in (0, 1)]
    weights = []
    for name, chosen in (("all", prepared), ("known", save_prepared(tmp_path / "known", known))):
        ProbeJudge.fit(options(tmp_path / f"w-{name}"), chosen, CPU)
        weights.append(ProbeJudge(options(tmp_path / f"w-{name}")))
    assert weights[0].findings == ("drusen",)
    assert weights[0].not_judged["scar"].startswith("0 training pictures with it and 72 without")
    assert "3 training pictures with it" in weights[0].not_judged["rare"]
    bright = torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    for judge in weights:
        assert judge(bright).item() > 0.9 > 0.1 > judge(bright // 4).item()


def test_probabilities_of_a_rare_finding_are_calibrated(tmp_path: Path) -> None:
    """Pictures whose brightness tells a finding of one in ten only in part."""
    rng = np.random.default_rng(1)
    labels = (rng.random(1200) < 0.1).astype(int)
    features = (labels[:, None] * 1.0 + rng.normal(size=(1200, 6))).astype(np.float32)
    half = slice(0, 600), slice(600, 1200)
    found = probe._regressions(features[half[0]], [labels[half[0]].astype(float)], 0.1)
    standard = (torch.from_numpy(features[half[1]]) - found["mean"]) / found["std"]
    probabilities = torch.sigmoid(standard @ found["weight"].T + found["bias"]).numpy()[:, 0]
    assert probabilities.mean() == pytest.approx(labels[half[1]].mean(), abs=0.03)
    prior = np.full(600, labels[half[1]].mean())
    assert log_loss(labels[half[1]], probabilities) < log_loss(labels[half[1]], prior)


def test_two_fits_are_byte_identical_and_say_what_they_rest_on(
    fitted: ProbeOptions, prepared: PreparedFolder, tmp_path: Path
) -> None:
    again = options(tmp_path / "again")
    ProbeJudge.fit(again, prepared, CPU)
    for name in ("model.safetensors", "config.json"):
        assert (again.weights / name).read_bytes() == (fitted.weights / name).read_bytes()
    identity = ProbeJudge.identity(fitted)
    assert identity == ProbeJudge.identity(again)
    assert identity["extractor"] == {"plugin": "grid", "weights": "aa"}
    assert (identity["fitted_on"], identity["fitted_splits"]) == (prepared.content_hash, ["train"])
    assert str(fitted.weights) not in json.dumps(identity)
    info = ProbeJudge(fitted).info
    assert info.name == "probe on grid-4"
    assert info.saw == ("mimic-cxr",)
    assert "nothing; its linear layer on the training split" in info.trained_on
    assert "24 real pictures" in info.trained_on
    assert (info.input_size, info.preprocessing) == (4, "box average")


def test_a_probe_on_the_run_s_teacher_is_not_independent(
    fitted: ProbeOptions, prepared: PreparedFolder
) -> None:
    identity = ready_identity(
        PluginConfig(name="probe", options=fitted), JUDGES, prepared, CPU
    )  # fmt: skip
    ask = SimpleNamespace(dataset="phantom-cxr", split="test")
    assert not objections(identity, teacher={"name": "linear", "weights": "bb"}, **vars(ask))
    (reason,) = objections(identity, teacher={"name": "linear", "weights": "aa"}, **vars(ask))
    assert "weights of the teacher" in reason
    ask.dataset, ask.split = "mimic-cxr", "train"
    saw, split = objections(identity, saw=ProbeJudge(fitted).info.saw, teacher=None, **vars(ask))
    assert "trained on pictures of mimic-cxr" in saw
    assert "fitted on the train split" in split


def test_an_extractor_that_is_fitted_itself_is_fitted_first(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    cnn = CnnOptions(
        weights=tmp_path / "cnn", input_size=32, epochs=2, dimension=8, min_positives=4
    )
    chosen = ProbeOptions(
        weights=tmp_path / "probe",
        extractor=PluginConfig(name="cnn", options=cnn),
        min_positives=4,
    )
    assert not ProbeJudge.is_fitted(chosen)
    plugin = PluginConfig(name="probe", options=chosen)
    identity = ready_identity(plugin, JUDGES, prepared, CPU)
    assert ProbeJudge.is_fitted(chosen)
    assert identity["extractor"]["weights_sha256"] == CnnExtractor.identity(cnn)["weights_sha256"]
    assert judged(chosen, prepared, prepared.rows("test")).shape == (8, 2)
    (cnn.weights / "config.json").unlink()
    assert not ProbeJudge.is_fitted(chosen)


def test_its_transform_and_checks_are_the_extractor_s(fitted: ProbeOptions) -> None:
    judge = ProbeJudge(fitted)
    assert judge.transform is judge.extractor.transform
    assert not judge.training
    assert not any(p.requires_grad for p in judge.parameters())
    for _ in range(2):
        with pytest.raises(ValueError, match="expected uint8"):
            judge(torch.rand(2, 1, 32, 32))


def test_missing_damaged_and_foreign_weights(fitted: ProbeOptions, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors and config\.json missing"):
        ProbeJudge(options(tmp_path / "nowhere"))
    with pytest.raises(RequestError, match=r"was fitted otherwise; it differs in options\.\w+ \("):
        ProbeJudge.identity(options(fitted.weights, regularisation=1.0))
    with pytest.raises(RequestError, match=r"differs in extractor.weights \("):
        ProbeJudge.identity(options(fitted.weights, sha256="bb"))
    with (fitted.weights / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RequestError, match="is not the file"):
        ProbeJudge.identity(fitted)


def test_nothing_to_judge_is_refused(prepared: PreparedFolder, tmp_path: Path) -> None:
    own = r"13 present .*evaluation\.judges: \[{name: probe, min_positives: .*is not evaluation\."
    with pytest.raises(RequestError, match=own):
        ProbeJudge.fit(options(tmp_path / "probe", min_positives=13), prepared, CPU)
    assert not (tmp_path / "probe").exists()


@pytest.mark.parametrize("wrong", [{"regularisation": 0.0}, {"min_positives": 0}])
def test_options_are_checked(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        options(tmp_path, **wrong)
