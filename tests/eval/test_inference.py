"""Outputs of a network for pictures in memory and in a folder: in order, whoever decodes them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from arra_med.errors import RequestError, WorkError
from arra_med.eval import inference
from arra_med.eval.evaluator import as_uint8
from arra_med.eval.inference import FolderPictures, PictureSource, check_pictures, predict
from arra_med.images import decode_png, encode_png
from arra_med.schema import Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

CPU = torch.device("cpu")
NUMBER, SIZE = 30, 16


def halved(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.reduce(2), dtype=np.float32))[None] / 255


class Pooled(nn.Module):
    """Four fixed features of uint8 pictures; remembers the batches it was given."""

    transform = staticmethod(as_uint8)

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(images)
        return nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


class Halved(Pooled):
    transform = staticmethod(halved)


def picture(index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)


def expected(index: int) -> NDArray[np.float64]:
    half = SIZE // 2
    blocks = picture(index).astype(np.float64).reshape(2, half, 2, half)
    return np.asarray(blocks.mean(axis=(1, 3)).ravel())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """Thirty pictures in parts of seven."""
    items = []
    for index in range(NUMBER):
        sample = Sample(
            key=f"p{index:02d}", patient_id=f"p{index}", study_id=f"p{index}", split="train",
            view="PA", prompt="a film", prompt_source="impression", labels={"Disc": None},
            modality="cxr", source=f"{index}.png",
        )  # fmt: skip
        items.append((sample, picture(index)))
    return save_prepared(tmp_path_factory.mktemp("inference") / "prepared", items, part_size=7)


def run(
    network: nn.Module, pictures: PictureSource, batch_size: int = 8, workers: int | None = 0
) -> NDArray[np.float32]:
    return predict(
        network, pictures, batch_size=batch_size, device=CPU, what="test", workers=workers
    )


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_rows_come_in_the_order_asked_for(prepared: PreparedFolder, batch_size: int) -> None:
    """Across parts, some left out, the last first; batches are filled across parts."""
    asked = np.random.default_rng(0).permutation(NUMBER)[:19]
    network = Pooled()
    keys = [f"p{index:02d}" for index in asked]
    found = run(network, FolderPictures(prepared, keys), batch_size)
    assert (found.shape, found.dtype) == ((19, 4), np.float32)
    np.testing.assert_allclose(found, [expected(index) for index in asked], rtol=1e-6)
    assert [len(batch) for batch in network.given[:-1]] == [batch_size] * (18 // batch_size)
    in_memory = [encode_png(picture(index)) for index in asked]
    np.testing.assert_allclose(run(network, in_memory, batch_size), found, rtol=1e-6)


def test_requirement_10_workers_and_batches_change_nothing(prepared: PreparedFolder) -> None:
    keys = [f"p{index:02d}" for index in reversed(range(NUMBER))]
    pngs = [encode_png(picture(index)) for index in reversed(range(NUMBER))]
    alone = run(Halved(), pngs, 1)
    for pictures in (pngs, FolderPictures(prepared, keys)):
        np.testing.assert_allclose(run(Halved(), pictures, 4, workers=2), alone, rtol=1e-6)


def test_few_pictures_start_no_process(
    prepared: PreparedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def watched(*args: object, workers: int, **named: object) -> Iterator[object]:
        asked.append(workers)
        return iter(())

    monkeypatch.setattr(inference, "load_keys", watched)
    monkeypatch.setattr(inference, "load_pngs", watched)
    monkeypatch.setattr(inference, "available_cores", lambda: 5)
    several = FolderPictures(prepared, prepared.keys)
    for few in (2**28, NUMBER * SIZE**2 + 1, NUMBER * SIZE**2):
        monkeypatch.setattr(inference, "_FEW_PIXELS", few)
        for pictures in (several, [encode_png(picture(0))] * NUMBER):
            with pytest.raises(AssertionError):  # no batch came
                run(Pooled(), pictures, workers=None)
    assert asked == [0, 0, 0, 0, 5, 5]


class Checked(Pooled):
    def forward(self, images: Tensor) -> Tensor:
        check_pictures(images)
        return super().forward(images)


def test_requirement_4_a_wrong_scale_raises_on_any_batch() -> None:
    network = Checked()
    network(torch.full((2, 1, SIZE, SIZE), 200, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no pixel of this batch is above 1"):
        network(torch.ones((2, 1, SIZE, SIZE), dtype=torch.uint8))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_nearly_black_files_are_pictures(batch_size: int) -> None:
    """Whatever shares their batch; tensors of a caller are checked again afterwards."""
    pngs = [encode_png(picture(index)) for index in range(8)]
    pngs += [encode_png(picture(index) // 128) for index in range(4)]
    assert run(Checked(), pngs, batch_size=batch_size)[8:].max() < 1
    with pytest.raises(ValueError, match="no pixel of this batch is above 1"):
        Checked()(torch.ones((2, 1, SIZE, SIZE), dtype=torch.uint8))


def test_an_output_that_is_not_finite_names_its_picture(prepared: PreparedFolder) -> None:
    class Broken(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            output = super().forward(images)
            dark = images.flatten(1).float().mean(dim=1) == 0
            return output.masked_fill(dark[:, None], torch.nan)

    black = encode_png(np.zeros((SIZE, SIZE, 1), np.uint8))
    pngs = [encode_png(picture(index)) for index in range(11)]
    with pytest.raises(WorkError, match=r"test: 1 outputs of a batch of 4.* of picture 9:"):
        run(Broken(), [*pngs[:9], black, *pngs[9:]], batch_size=4)

    class Infinite(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * torch.inf

    with pytest.raises(WorkError, match=r"first that of picture p03:"):
        run(Infinite(), FolderPictures(prepared, ["p21", "p03"]))


def test_what_cannot_be_predicted_is_refused(prepared: PreparedFolder) -> None:
    with pytest.raises(ValueError, match="test: there is no picture"):
        run(Pooled(), [])
    with pytest.raises(ValueError, match="there is no picture"):
        run(Pooled(), FolderPictures(prepared, []))
    with pytest.raises(ValueError, match="named twice"):
        FolderPictures(prepared, ["p01", "p02", "p01"])
    with pytest.raises(RequestError, match=r"no picture for 2 keys, first \['p77', 'q'\]"):
        run(Pooled(), FolderPictures(prepared, ["p01", "q", "p77"]))
    small = encode_png(picture(0)[:8])
    with pytest.raises(RequestError, match="every picture must get the same shape"):
        run(Pooled(), [encode_png(picture(0)), small])

    class Flat(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).ravel()

    with pytest.raises(ValueError, match=r"expected \(2, D\) from the network, got \(8,\)"):
        run(Flat(), [encode_png(picture(0))] * 2)


def test_a_folder_is_read_a_batch_at_a_time(
    prepared: PreparedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more of it than a chunk is read before a batch has been through the network."""
    network, seen = Pooled(), []
    read = PreparedFolder.read_chunk

    def watched(self: PreparedFolder, part: int, chunk: int) -> list[tuple[str, bytes]]:
        seen.append((part, sum(map(len, network.given))))
        return read(self, part, chunk)

    monkeypatch.setattr(PreparedFolder, "read_chunk", watched)
    run(network, FolderPictures(prepared, prepared.keys), batch_size=7)
    assert seen[1:] == [(part, 7 * part) for part in range(5)]  # the first says how large they are


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gives_the_same_rows(prepared: PreparedFolder, workers: int) -> None:
    device = torch.device("cuda")
    found = predict(
        Pooled().to(device), FolderPictures(prepared, prepared.keys), batch_size=4, device=device,
        what="test", workers=workers,
    )  # fmt: skip
    np.testing.assert_allclose(found, [expected(index) for index in range(NUMBER)], rtol=1e-5)


def test_pictures_are_decoded_as_they_are_stored(prepared: PreparedFolder) -> None:
    network = Pooled()
    run(network, FolderPictures(prepared, ["p00", "p01"]))
    stored = [decode_png(png) for _, png in prepared.read_part(0)[:2]]
    assert torch.equal(network.given[0], torch.from_numpy(np.stack(stored)).permute(0, 3, 1, 2))
