"""torchxrayvision's pickled weights, once to safetensors and JSON, and back into its models.

torchxrayvision 1.5.7 keeps a DenseNet as a whole pickled ``nn.Module`` and the ResNet as a pickled
state dict, loads both with ``weights_only=False``, and keeps labels and operating points in its own
code. Cohen et al., MIDL 2022 (arXiv 2111.00595).
"""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from arra_med.assets.pickles import load_state
from arra_med.errors import RequestError
from arra_med.store import canonical_json, sha256_file, write_atomic

with warnings.catch_warnings():  # importing it would silence every warning of the process
    import torchxrayvision as xrv

WEIGHTS, CONFIG = "model.safetensors", "model.json"


def convert_torchxrayvision(path: Path, output: Path, *, weights: str | None = None) -> None:
    """Turn a weights file of torchxrayvision's release into ``model.safetensors`` and
    ``model.json`` in the folder ``output``. Nothing in the file is run.

    Args:
        path: the ``.pt`` file.
        output: folder.
        weights: torchxrayvision's name for it (``"densenet121-res224-all"``); by default found by
            the file's name.

    Raises:
        RequestError: if the file is not one of torchxrayvision's classifiers.
    """
    name = weights or _name_of(path)
    try:
        published = xrv.models.model_urls[name]
    except KeyError:
        known = ", ".join(n for n in xrv.models.model_urls if "-" in n)
        raise RequestError(f"torchxrayvision has no weights {name!r}; it has {known}") from None
    _, state = load_state(path)
    state.pop("op_threshs", None)  # in model.json, as torchxrayvision's own code has them
    labels = list(published["labels"])
    thresholds = published.get("op_threshs")
    config = {
        "model": "torchxrayvision",
        "architecture": "resnet50" if name.startswith("resnet50") else "densenet121",
        "weights": name,
        "targets": labels,
        "op_threshs": thresholds and [None if math.isnan(t) else float(t) for t in thresholds],
        "apply_sigmoid": False,
        "input_size": int(published["input_resolution"]),
        "input_range": [-1024, 1024],
        "input_channels": 1,
        "source_file": path.name,
        "source_sha256": sha256_file(path),
    }
    _build(config, state, path)  # it must fit before anything is written
    # One order of keys, so that the same weights give the same bytes.
    tensors = {key: state[key].contiguous() for key in sorted(state)}
    write_atomic(output / WEIGHTS, save(tensors))
    write_atomic(output / CONFIG, canonical_json(config).encode())


def read_config(folder: Path) -> dict[str, Any]:
    """``model.json`` of a converted folder.

    Raises:
        FileNotFoundError: if the folder does not hold converted weights.
        RequestError: if the file cannot be read.
    """
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} does not hold converted torchxrayvision weights ({name} is missing): "
                "bring them with 'arra-med assets fetch torchxrayvision/<name>'"
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder, error) from error
    if not isinstance(config, dict) or config.get("model") != "torchxrayvision":
        raise _damaged(folder, "its 'model' is not 'torchxrayvision'")
    return config


def load_torchxrayvision(folder: Path) -> nn.Module:
    """torchxrayvision's own model from a converted folder, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder does not hold one.
        RequestError: if its files do not fit together.
    """
    config = read_config(folder)
    try:
        return _build(config, load_file(folder / WEIGHTS), folder)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, RequestError):
            raise
        raise _damaged(folder, error) from error


def _damaged(folder: Path, why: object) -> RequestError:
    return RequestError(f"{folder / CONFIG} is not of converted weights: {why!r}")


class _ResNet(xrv.models.ResNet):  # type: ignore[misc]  # the library has no types
    """torchxrayvision's ResNet, whose own constructor would unpickle or download its weights."""

    def __init__(self, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.weights = None
        self.apply_sigmoid = False
        self.model = torchvision.models.resnet50(num_classes=num_classes, weights=None)
        self.model.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)


def _build(config: dict[str, Any], state: dict[str, torch.Tensor], where: Path) -> nn.Module:
    targets = list(config["targets"])
    model: nn.Module
    if config["architecture"] == "resnet50":
        model = _ResNet(len(targets))
        inner = model.model
    else:
        model = inner = xrv.models.DenseNet(weights=None, num_classes=len(targets))
    try:
        inner.load_state_dict(state)
    except RuntimeError as error:
        raise RequestError(
            f"{where} is not torchxrayvision's {config['architecture']}: {error}"
        ) from error
    model.targets = model.pathologies = targets
    model.apply_sigmoid = bool(config["apply_sigmoid"])
    model.input_resolution = int(config["input_size"])
    if config["op_threshs"]:
        values = [math.nan if value is None else value for value in config["op_threshs"]]
        model.register_buffer("op_threshs", torch.tensor(values))
    return model.eval().requires_grad_(False)


def _name_of(path: Path) -> str:
    for name, published in xrv.models.model_urls.items():
        if "-" in name and published["weights_url"].rpartition("/")[2] == path.name:
            return str(name)
    raise RequestError(
        f"{path.name} is not the name of a torchxrayvision release file: say which weights it is"
    )
