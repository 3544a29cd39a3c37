"""Where assets lie, the catalogue, what a configuration needs, ``list`` and ``check``."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torchxrayvision

from arra_med.assets import asset_path, assets_folder, find_asset, folder_name, offline
from arra_med.assets.catalogue import catalogue, resolve
from arra_med.assets.folder import human_size
from arra_med.assets.needs import needed
from arra_med.assets.record import read_record
from arra_med.config import PluginConfig, load
from arra_med.errors import RequestError
from arra_med.registry import JUDGES, REGISTRIES, TEACHERS
from arra_med.settings import Backbone, Settings
from tests.asset_folders import WEIGHTS, flip, forbid_sockets, run, write_asset

BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_OFFLINE", "ARRA_MED_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARRA_MED_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)


def config(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(f"paths: {{output: {folder}/work}}\nalignment: {{enabled: false}}\n{text}")
    return path


def settings(folder: Path, text: str) -> Settings:
    return load(Settings, config(folder, text))


# Where


def test_an_asset_is_found_once_it_is_complete(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ARRA_MED_ASSETS is .*unpack"):
        assets_folder()  # named and not there: perhaps misspelt
    root.mkdir()
    assert asset_path("someone/net") is None
    (root / "someone__net").mkdir()
    assert asset_path("someone/net") is None  # no asset.json: not complete
    folder = write_asset(root, "someone/other", {"model.safetensors": WEIGHTS})
    assert asset_path("someone/other") == find_asset("someone/other") == folder
    with pytest.raises(FileNotFoundError, match="arra-med assets fetch someone/net"):
        find_asset("someone/net")


def test_without_the_variable_the_cache_is_the_folder_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARRA_MED_ASSETS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert assets_folder() is None
    assert asset_path("someone/net") is None
    (tmp_path / ".cache" / "arra_med" / "assets").mkdir(parents=True)
    assert assets_folder() == tmp_path / ".cache" / "arra_med" / "assets"


@pytest.mark.parametrize("name", ["../x", "a", "a/b/c", "/etc/passwd", "a/..", ".a/b", ""])
def test_names_that_are_not_ones_have_no_folder(name: str, root: Path) -> None:
    root.mkdir()
    with pytest.raises(RequestError, match="owner/name"):
        folder_name(name)
    assert asset_path(name) is None


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("ON", True), ("0", False), ("", False)]
)
def test_offline(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert offline() is expected


def test_sizes_for_people() -> None:
    sizes = (0, 999, 28_382_008, 783_705_670, 999_600_000, 14_000_000_000)
    expected = ["0 B", "999 B", "28 MB", "784 MB", "1.0 GB", "14 GB"]
    assert [human_size(size) for size in sizes] == expected


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse, arra_med.assets, arra_med.cli.assets as cli\n"
        "cli.add_parser(argparse.ArgumentParser().add_subparsers(),"
        " argparse.ArgumentParser(add_help=False))\n"
        "print({'torch', 'numpy', 'huggingface_hub', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The catalogue


def test_catalogue_is_sound() -> None:
    assets = catalogue().assets
    assert len({asset.name for asset in assets}) == len(assets)
    for asset in assets:
        assert asset.kinds, asset.name
        assert asset.title, asset.name
        assert str(asset.page).startswith("https://"), asset.name
        assert asset.revision is None or len(asset.revision) == 40, asset.name
        for file in asset.files:
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32, file.name
            assert file.url is None or file.url.startswith("https://github.com/"), file.name
            # A hub file's hash means something only at one commit.
            assert asset.source != "hub" or asset.revision is not None, asset.name
    names = {asset.name for asset in assets}
    for kind, plugins in catalogue().plugins.items():
        for plugin, loaded in plugins.items():
            assert plugin in REGISTRIES[kind].names()
            assert set(loaded) <= names


def test_torchxrayvision_entries_are_its_own_urls() -> None:
    published = {
        name: entry["weights_url"]
        for name, entry in torchxrayvision.models.model_urls.items()
        if "-" in name
    }
    ours = {
        asset.name.partition("/")[2]: asset.files[0].url
        for asset in catalogue().assets
        if asset.convert == "torchxrayvision"
    }
    assert ours == published


def test_names_are_resolved() -> None:
    assert resolve("rad-dino").name == "microsoft/rad-dino"
    assert resolve(BIOMEDCLIP).licence == "MIT"
    assert resolve("Some/Thing").source == "hub"
    pinned = resolve("microsoft/rad-dino").revision
    assert resolve(f"rad-dino@{pinned}").files
    other = resolve("rad-dino@v2")
    assert (other.revision, other.files) == ("v2", ())
    with pytest.raises(RequestError, match="wanglab/medsam-vit-base or flaviagiammarino"):
        resolve("medsam-vit-base")
    with pytest.raises(RequestError, match="Did you mean microsoft/rad-dino"):
        resolve("rad_dino")
    with pytest.raises(RequestError, match="only a hub repository has a revision"):
        resolve("densenet121-res224-all@main")


# What a configuration needs


def test_needs_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    found = needed(
        settings(
            tmp_path,
            f"""
tokenizer: {{plugin: {{name: monai-vqvae}}}}
features: {{teacher: {{name: biomedclip}}}}
backbone: {{pretrained: {tmp_path}/llm}}
evaluation:
  judges: [{{name: cnn, weights: "{tmp_path}/judge", input_size: 32}}]
  extractors: [{{name: cnn, weights: "{tmp_path}/judge", input_size: 32}}]
""",
        )
    )
    # The tokenizer, the judge and the extractor are made by stages of the run itself.
    assert [(a.name, a.source, a.kinds) for a in found] == [
        (BIOMEDCLIP, "hub", ("teacher",)),
        ("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "hub", ("teacher",)),
        (f"{tmp_path}/llm", "local", ("backbone",)),
    ]


def test_a_published_model_that_draws_is_needed_and_an_export_is_not(tmp_path: Path) -> None:
    name = "xing0916/ARRA-Adapt-MIMIC-7B"
    draws = load(Settings, config(tmp_path, ""), [f"paths.export={name}"])
    assert [(a.name, a.kinds) for a in needed(draws)] == [(name, ("backbone",))]
    trained = ["paths.export=work/export", f"backbone.pretrained={tmp_path}"]
    trains = load(Settings, config(tmp_path, ""), trained)
    assert [asset.name for asset in needed(trains)] == [str(tmp_path)]


def test_a_diffusers_pipeline_is_needed(tmp_path: Path) -> None:
    for pipeline, source in (("stabilityai/sd-turbo", "hub"), (str(tmp_path), "local")):
        draws = load(Settings, config(tmp_path, ""), [f"generation.diffusers.pipeline={pipeline}"])
        assert [(a.name, a.source) for a in needed(draws)] == [(pipeline, source)]


def test_needs_of_judges_and_extractors(tmp_path: Path) -> None:
    """By the asset's name, by default, and of the plug-in that an option names."""
    own, raw = tmp_path / "own", tmp_path / "inception.pth"
    found = needed(
        settings(
            tmp_path,
            f"""
evaluation:
  judges:
  - {{name: xrv, weights: torchxrayvision/resnet50-res512-all}}
  - {{name: xrv, weights: "hf-hub:torchxrayvision/densenet121-res224-nih"}}
  extractors:
  - {{name: xrv, weights: torchxrayvision/resnet50-res512-all}}
  - {{name: xrv, weights: "{own}", layer: features}}
  - {{name: inception}}
  - {{name: inception, weights: "local-dir:{raw}"}}
  - {{name: teacher, teacher: {{name: rad-dino}}, squash: 299}}
  - {{name: teacher, teacher: {{name: linear, weights: "{tmp_path}/linear"}}}}
""",
        )
    )
    assert [(a.name, a.source, a.kinds) for a in found] == [
        ("torchxrayvision/resnet50-res512-all", "url", ("judge", "extractor")),
        ("torchxrayvision/densenet121-res224-nih", "url", ("judge",)),
        (str(own), "local", ("extractor",)),
        ("torch-fidelity/inception-2015-12-05", "url", ("extractor",)),
        (str(raw), "local", ("extractor",)),
        ("microsoft/rad-dino", "hub", ("extractor",)),
    ]


def test_a_folder_of_one_s_own_takes_the_place_of_the_published_weights(tmp_path: Path) -> None:
    text = f"features: {{teacher: {{name: biomedclip, weights: {tmp_path}/b}}}}\n"
    found = needed(settings(tmp_path, text))
    assert [(a.name, a.source) for a in found] == [(f"{tmp_path}/b", "local")]
    text = "features: {teacher: {name: biomedclip, weights: 'hf-hub:someone/clip'}}\n"
    assert [a.name for a in needed(settings(tmp_path, text))] == ["someone/clip"]
    text = "features: {teacher: {name: biomedclip, weights: 'local-dir:/models/b'}}\n"
    assert [a.name for a in needed(settings(tmp_path, text))] == ["/models/b"]
    text = "backbone: {pretrained: Alpha-VLLM/Lumina-mGPT-7B-512}\n"
    assert [a.name for a in needed(settings(tmp_path, text))] == ["Alpha-VLLM/Lumina-mGPT-7B-512"]


def test_plug_ins_may_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def assets(options: object) -> tuple[str, ...]:
        return ("rad-dino", "someone/net")

    teacher = TEACHERS.get("medsam")
    monkeypatch.setattr(teacher, "assets", staticmethod(assets), raising=False)
    run_settings = settings(
        tmp_path,
        f"""
features: {{teacher: {{name: medsam}}}}
evaluation:
  judges: [{{name: cnn, weights: "{tmp_path}/judge", input_size: 32}}]
  extractors: [{{name: cnn, weights: "{tmp_path}/judge", input_size: 32}}]
""",
    )
    monkeypatch.setattr(JUDGES, "get", lambda name: teacher)
    assert run_settings.evaluation is not None
    judge = PluginConfig(name="medsam", options=teacher.Options())
    both = dataclasses.replace(
        run_settings, evaluation=dataclasses.replace(run_settings.evaluation, judges=(judge,))
    )
    found = {asset.name: asset.kinds for asset in needed(both)}
    assert found == {
        "microsoft/rad-dino": ("teacher", "judge"),
        "someone/net": ("teacher", "judge"),
    }


def test_a_backbone_of_random_weights_needs_nothing(tmp_path: Path) -> None:
    text = "backbone: {llama: {hidden_size: 64}}\n"
    assert needed(settings(tmp_path, text)) == []
    assert Backbone.__dataclass_fields__["pretrained"].default is None


# list and check


def test_list_shows_all_that_is_known_and_what_is_here(root: Path, capsys) -> None:
    write_asset(root, "someone/net", {"model.safetensors": WEIGHTS})
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "kind", "size", "licence", "sha256", "here", "source"]
    by_name = {line.split()[0]: line for line in lines[1:]}
    assert {asset.name for asset in catalogue().assets} < set(by_name)
    assert "gated" in by_name["meta/chameleon-tokenizer"]
    assert "at fetch" in by_name["wanglab/medsam-vit-base"]
    assert "52cc993c5c5f" in by_name[BIOMEDCLIP]
    assert by_name["someone/net"].split()[-2] == "yes"
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["someone/net"]["folder"] == str(root / "someone__net")
    assert (
        rows["someone/net"]["sha256"] == rows["someone/net"]["files"]["model.safetensors"]["sha256"]
    )
    assert rows[BIOMEDCLIP]["folder"] is None


@pytest.mark.usefixtures("no_sockets")
def test_check_of_a_configuration(root: Path, tmp_path: Path, capsys, caplog) -> None:
    text = f"""
features: {{teacher: {{name: medsam}}}}
backbone: {{pretrained: {tmp_path}/llm}}
"""
    path = config(tmp_path, text)
    assert run("list", path) == 0
    assert "wanglab/medsam-vit-base" in capsys.readouterr().out
    assert run("check", path) == 1
    assert "missing  wanglab/medsam-vit-base" in capsys.readouterr().out
    assert f"wanglab/medsam-vit-base: not at {root}/wanglab__medsam-vit-base" in caplog.text
    assert "arra-med assets fetch wanglab/medsam-vit-base'" in caplog.text
    assert f"{tmp_path}/llm: not at" in caplog.text
    assert "copy them here, or correct the path" in caplog.text
    folder = write_asset(root, "wanglab/medsam-vit-base", {"model.safetensors": WEIGHTS})
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "config.json").touch()
    assert run("check", path) == 0
    flip(folder / "model.safetensors", 5000)
    caplog.clear()
    assert run("check", path) == 1
    assert "damaged  wanglab/medsam-vit-base" in capsys.readouterr().out
    assert "model.safetensors has SHA-256" in caplog.text


@pytest.mark.usefixtures("no_sockets")
def test_settings_can_be_overridden(root: Path, tmp_path: Path, capsys) -> None:
    path = config(tmp_path, "features: {teacher: {name: biomedclip}}\n")
    assert run("list", path, "features.teacher.name=rad-dino") == 0
    told = capsys.readouterr().out
    assert "microsoft/rad-dino" in told
    assert "BiomedCLIP" not in told


def test_check_finds_every_kind_of_damage(root: Path, caplog) -> None:
    files = {"a.json": b"{}", "sub/b.bin": WEIGHTS, "c.txt": b"c"}
    folder = write_asset(root, "someone/net", files)
    assert run("check") == 0
    (folder / "a.json").unlink()
    (folder / "sub" / "b.bin").write_bytes(WEIGHTS[:-1])
    flip(folder / "c.txt")
    (folder / "open_clip_model.safetensors").write_bytes(b"put here by hand")
    write_asset(root, "other/net", {"x.txt": b"x"})
    (root / "other__net" / "asset.json").write_text("{}")
    assert run("check") == 1
    for text in (
        "a.json is missing",
        f"sub/b.bin has {len(WEIGHTS) - 1} bytes, expected {len(WEIGHTS)}",
        "c.txt has SHA-256",
        "open_clip_model.safetensors does not belong here",
        "is not a record of an asset",
    ):
        assert text in caplog.text


@pytest.mark.usefixtures("no_sockets")
def test_a_forged_record_does_not_pass_for_published_weights(root: Path, caplog) -> None:
    write_asset(root, BIOMEDCLIP, {"open_clip_pytorch_model.bin": WEIGHTS})
    path = root / folder_name(BIOMEDCLIP) / "asset.json"
    assert run("check") == 1
    assert "is revision aaaa" in caplog.text
    revision = resolve(BIOMEDCLIP).revision
    path.write_text(path.read_text().replace("a" * 40, str(revision)))
    assert run("check") == 1
    assert "open_clip_pytorch_model.bin is not the published file" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"files": {"../../x": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"/x": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"asset.json": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"x": {"size": "1", "sha256": "0" * 64}}},
        {"files": {}},
        {"name": "someone/else"},
    ],
)
def test_records_that_are_not_ours_are_refused(root: Path, change: dict[str, object]) -> None:
    folder = write_asset(root, "someone/net", {"x": b"x"})
    path = folder / "asset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RequestError):
        read_record(folder)


def test_no_assets(root: Path, tmp_path: Path, capsys) -> None:
    assert run("check") == 0
    assert "none in" in capsys.readouterr().out
    assert run("list", config(tmp_path, "backbone: {llama: {hidden_size: 64}}\n")) == 0
    assert "nothing" in capsys.readouterr().out
    assert run("pack", "--all", tmp_path / "a.tar") == 2
    assert not (tmp_path / "a.tar").exists()
