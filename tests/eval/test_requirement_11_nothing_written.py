"""The search for copies leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arra_med.errors import WorkError
from arra_med.eval.inference import PictureSource
from arra_med.eval.privacy import SearchSpace
from arra_med.store import PreparedFolder
from tests.eval.films import SIZE, encode, honest, save_small, search


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    return save_small(tmp_path_factory.mktemp("small") / "prepared")


def alive(process: int) -> bool:
    """Whether it runs: another test's shared memory bears the number of a process that does."""
    return Path(f"/proc/{process}").exists()


def files_under(*folders: Path) -> set[str]:
    return {str(path) for folder in folders for path in folder.rglob("*")}


def test_requirement_11_nothing_is_written_even_after_an_exception(
    small: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = files_under(small.folder.parent, tmp_path)

    for fails_at in ("training", "generated", "held out", "planted"):

        def failing(source: PictureSource, what: str, at: str = fails_at) -> NDArray[np.float32]:
            if what.endswith(at):
                raise WorkError("the weights are broken")
            return encode(source, what)

        with pytest.raises(WorkError, match="broken"):
            search(small, honest(8), SearchSpace(name="broken", extract=failing))
    search(small, honest(8))
    assert files_under(small.folder.parent, tmp_path) == before


def test_requirement_11_worker_processes_leave_nothing_either(
    small: PreparedFolder, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A process of its own: what its workers' server keeps is gone when it ends."""
    scratch, script = tmp_path_factory.mktemp("t"), tmp_path / "script.py"  # sockets' paths: 108
    script.write_text(
        f"""
if __name__ == "__main__":
    from pathlib import Path
    import numpy as np
    from arra_med.eval.privacy import GeneratedPictures, search_copies
    from arra_med.images import encode_png
    from arra_med.settings import Memorisation
    from arra_med.store import PreparedFolder

    good = encode_png(np.zeros(({SIZE}, {SIZE}, 1), np.uint8))
    made = GeneratedPictures(
        keys=["test000", "test000"], indices=[0, 1], patients=["p", "p"], pngs=[good, b"damaged"],
        constant=[False, False],
    )
    search_copies(
        [], PreparedFolder(Path({str(small.folder)!r})), made, options=Memorisation(planted=4),
        generator=np.random.default_rng(0), batch_size=32, workers=1,
    )
""",
        encoding="utf-8",
    )
    shared = Path("/dev/shm")
    before, memory = files_under(small.folder.parent), files_under(shared)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "in DataLoader worker process" in done.stderr
    assert "UnidentifiedImageError" in done.stderr
    assert files_under(scratch) == set()
    assert files_under(small.folder.parent) == before
    left = [name for name in files_under(shared) - memory if "torch_" in name]
    assert not [name for name in left if not alive(int(name.split("torch_")[1].split("_")[0]))]
