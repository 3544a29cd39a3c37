"""A recipe runs from pictures to pictures on tiny checkpoints in the published layouts."""

import re
from pathlib import Path

import pytest

from arra_med.cli.main import main
from tests.model.chameleon_files import Checkpoint
from tests.tokenizers.meta_vqgan import SMALL, VqGan, save_ckpt
from tests.training.ranks import run

ROOT = Path(__file__).parents[1]


def small(folder: Path, run: str) -> list[str]:
    """Overrides that bring a recipe down to two cores: phantoms, a tiny teacher, three steps."""
    return [
        f"ingest.dataset={{name: phantom-cxr, root: {folder}/source, num_samples: 40}}",
        "ingest.size=64",
        f"paths.prepared={folder}/prepared",
        f"paths.tokenizer={folder}/vq",
        f"paths.output={folder}/{run}",
        f"tokenizer.plugin.weights={folder}/meta",
        f"features.teacher={{name: linear, weights: {folder}/teacher, dimension: 16, epochs: 2}}",
        "features.precision=fp32",
        f"backbone.pretrained={folder}/hub",
        "training.precision=fp32",
        "training.max_steps=3",
        "training.batch_size=8",
        "training.micro_batch_size=4",
        "training.log_every=1",
        "training.preview_samples=1",
        "training.loader_workers=0",
        "generation.limit=1",
        "generation.images_per_prompt=1",
        "device=cpu",
    ]


@pytest.mark.slow
def test_arra_runs_and_info_says_what_the_page_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny Chameleon and VQ-GAN, as docs/models.md says."""
    Checkpoint().write(tmp_path / "hub")
    save_ckpt(VqGan(**(SMALL | {"codes": 16})), tmp_path / "meta" / "vqgan.ckpt")
    recipe = ROOT / "scripts" / "mimic_cxr" / "arra.yaml"
    arguments = [str(recipe), *small(tmp_path, "arra")]
    for verb in ("ingest", "train-tokenizer", "tokenize", "features"):
        assert main([verb, *arguments]) == 0
    assert main(["features", *arguments, "features.aggregation=mean"]) == 0
    caches = tmp_path / "prepared" / "features"
    assert len(list(caches.glob("linear-*"))) == 2, "caches of two aggregations lie side by side"
    run(tmp_path / "train.log", "train", *arguments)
    assert main(["generate", *arguments]) == 0
    wide = [f"paths.generated={tmp_path}/wide", "generation.size=[64, 96]"]
    assert main(["generate", *arguments, *wide]) == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "arra/run/export")]) == 0
    page = (ROOT / "docs" / "models.md").read_text()
    shown = re.findall(r"```text\n(.*?)```", page, re.S)
    assert capsys.readouterr().out == shown[0]
