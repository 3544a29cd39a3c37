"""BiomedCLIP's text tower against open_clip's own model and tokenizer, with the network off."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from arra_med.errors import RequestError
from arra_med.teachers.biomedclip_text import BiomedClipText, BiomedClipTextOptions
from tests.teachers.models import BERT_NAME, SMALL_BERT

TEXTS = ["no effusion.", "Left  effusions\n", "", "right " * 40]


@pytest.fixture
def folder(biomedclip: tuple[Path, nn.Module], tmp_path: Path) -> Path:
    """The small BiomedCLIP with the small text model's configuration beside it."""
    copy = tmp_path / "with-config"
    shutil.copytree(biomedclip[0], copy)
    (copy / "config.json").write_text(json.dumps(SMALL_BERT))
    return copy


def text_tower(folder: Path | None, **options: int) -> BiomedClipText:
    return BiomedClipText(BiomedClipTextOptions(weights=folder, **options))


@pytest.mark.usefixtures("no_network")
def test_equals_open_clip_text_by_text(folder: Path, biomedclip: tuple[Path, nn.Module]) -> None:
    _, reference = biomedclip
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    tower = text_tower(folder)
    found = tower.encode(TEXTS)
    assert found.vectors.shape == (4, 512)
    assert found.vectors.dtype == torch.float32
    with torch.inference_mode():
        for text, vector in zip(TEXTS, found.vectors, strict=True):
            expected = reference.encode_text(tokenizer([text]), normalize=True)[0]
            torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)
    assert found.vectors.std() > 0.01
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(4))


@pytest.mark.usefixtures("no_network")
def test_texts_beyond_the_context_are_counted(folder: Path) -> None:
    """16 tokens of context: [CLS], 14 words, [SEP]."""
    tower = text_tower(folder, batch_size=2)
    found = tower.encode(["no " * 14, "no " * 15, "no " * 300])
    assert found.truncated == 2
    assert torch.allclose(found.vectors[1], found.vectors[0], atol=1e-5)
    nothing = tower.encode([])
    assert nothing.vectors.shape == (0, 512)
    assert nothing.truncated == 0


@pytest.mark.usefixtures("no_network")
def test_both_formats_and_batches_give_the_same(
    folder: Path, conversion: tuple[Path, nn.Module]
) -> None:
    """The conversion's settings say nothing of a context: 256, which our small BERT has not."""
    texts = [text[:60] for text in TEXTS]
    expected = text_tower(folder).encode(texts).vectors
    converted = text_tower(conversion[0], batch_size=1)
    assert converted.context_length == 256
    torch.testing.assert_close(converted.encode(texts).vectors, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("no_network")
def test_configuration_from_the_asset_folder(
    biomedclip: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or from Hugging Face's cache; without either it is taken for BERT-base, and does not fit."""
    original, _ = biomedclip
    with pytest.raises(RequestError, match="does not fit"):
        text_tower(original)
    asset = tmp_path / "assets" / BERT_NAME.replace("/", "__")
    asset.mkdir(parents=True)
    (asset / "asset.json").write_text("{}")
    (asset / "config.json").write_text(json.dumps(SMALL_BERT))
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "assets"))
    assert text_tower(original).encode(TEXTS).vectors.isfinite().all()


@pytest.mark.usefixtures("no_network")
def test_what_is_missing(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer.*Needed: tokenizer\.json"):
        text_tower(folder)
    (folder / "config.json").unlink()
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "someone/else"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(RequestError, match=r"text model 'someone/else'.*copy that model's config"):
        text_tower(folder)


def test_identity(folder: Path) -> None:
    identity = BiomedClipText.identity(BiomedClipTextOptions(weights=folder))
    assert identity["name"] == "biomedclip-text"
    assert identity["context_length"] == 16
    assert len(identity["weights_sha256"]) == 64
    with pytest.raises(ValueError, match="batch_size must be positive"):
        BiomedClipTextOptions(batch_size=0)
