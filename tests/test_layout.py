"""The repository's shape: three folders at the top, one package, imports in one direction."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("datasets", "teachers", "eval")

# Each layer may import itself and the layers before it.
LAYERS = [
    {"errors", "_version"},
    {
        "schema",
        "registry",
        "store",
        "images",
        "ms_ssim",
        "config",
        "yaml_files",
        "settings",
        "parallel",
        "picture_loader",
        "progress",
        "sides",
        "assets",
    },
    {"datasets", "tokenizers", "teachers"},
    {"model", "alignment", "token_loss"},
    {"training", "generation"},
    {"eval"},
    {"cli", "__main__"},
]


def layer_of(module: str) -> int:
    name = module.split(".")[1] if "." in module else "errors"
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def package_files() -> dict[str, Path]:
    files = {}
    for folder in ("arra_med", *LINKED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT).with_suffix("")
            parts = relative.parts if folder == "arra_med" else ("arra_med", *relative.parts)
            if any(part in LINKED for part in relative.parts[1:]):
                continue  # the same file through its link
            files[".".join(parts)] = path
    return files


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_links_are_relative_and_the_folders_have_no_init() -> None:
    for name in LINKED:
        link = ROOT / "arra_med" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
        assert not (ROOT / name / "__init__.py").exists()


def test_datasets_is_hugging_face_s_from_the_root_and_ours_from_anywhere() -> None:
    code = "import sys; sys.path.insert(0, ''); import datasets as d; print(d.Dataset.__module__)"
    assert run_python(code, ROOT).startswith("datasets.")
    code = "import arra_med.datasets.mimic_cxr as m; print(m.__name__)"
    assert run_python(code, Path("/")) == "arra_med.datasets.mimic_cxr"


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, path in package_files().items()
        if module != "arra_med.__init__"
        for imported in imports_of(path)
        if imported.startswith("arra_med.") and layer_of(imported) > layer_of(module)
    ]
    assert not wrong


def test_datasets_knows_neither_torch_nor_teachers() -> None:
    for module, path in package_files().items():
        if module.startswith("arra_med.datasets."):
            names = imports_of(path)
            assert not any(n.split(".")[0] == "torch" or "arra_med.teachers" in n for n in names), (
                module
            )
        assert not any(n.startswith("scripts") for n in imports_of(path))


def test_help_is_quick_and_does_not_import_torch() -> None:
    code = (
        "import sys, time; t = time.perf_counter()\n"
        "from arra_med.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert time.perf_counter() - t < 1\n"
    )
    assert "arra-med" in run_python(code, ROOT)
    assert run_python("import arra_med, sys; print('torch' in sys.modules)", ROOT) == "False"


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    expected = {module.replace(".", "/") + ".py" for module in package_files()}
    assert expected <= names
    data = (
        "arra_med/py.typed",
        "arra_med/cli/demo.yaml",
        "arra_med/assets/catalogue.yaml",
        "arra_med/eval/templates/report.html",
    )
    assert set(data) <= names
