"""Tensors out of somebody else's pickled ``nn.Module``, without running anything it names.

``torch.load(weights_only=True)`` cannot read such files where they are in the format of before
PyTorch 1.6, as torchxrayvision's are. Here, every class that the file names becomes an inert
stand-in; only torch's four functions that build tensors are real. A name outside the libraries
that such files use is refused.
"""

import collections
import pickle
import types
import warnings
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from arra_med.errors import RequestError

_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
_STAND_IN = ("torch", "torchvision", "torchxrayvision", "numpy")


class StandIn:
    """Stands for an object of a class named in a file; it only keeps its attributes."""

    dump_patches = False  # torch asks module classes for it

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def load_state(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The tensors of a pickled module, or of a pickled mapping of names to tensors.

    Returns:
        The class's name (``DenseNet``; empty for a mapping) and what its ``state_dict()`` holds.

    Raises:
        RequestError: if the file is not one of these, or names something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on source code that old files carry along
            loaded = torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=_restricted()
            )
    except RequestError:
        raise
    except Exception as error:  # a broken file may break any step of unpickling
        raise RequestError(
            f"{path} is not a PyTorch file that can be read safely: {error}"
        ) from error
    name = ""
    if isinstance(loaded, StandIn):
        name = type(loaded).__name__
        if name == "DataParallel":
            loaded = loaded.__dict__.get("_modules", {}).get("module")
            name = type(loaded).__name__
        state = dict(_tensors(loaded, ""))
    else:
        state = loaded
    if not isinstance(state, dict) or not state or not _are_tensors(state):
        raise RequestError(f"{path} holds neither a module nor a mapping of names to tensors")
    return name, {key: tensor.detach().clone() for key, tensor in state.items()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - what the file names
        if (module, name) in _REAL:
            return _REAL[module, name]
        if module.partition(".")[0] in _STAND_IN:
            return type(name.rpartition(".")[2], (StandIn,), {})
        raise RequestError(
            f"the file names {module}.{name}, which no weights need: it was tampered with, or is "
            "not a file of weights; nothing of it was run"
        )


def _restricted() -> Any:  # noqa: ANN401 - torch.load wants a module
    module = types.ModuleType("restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = _load  # type: ignore[attr-defined]
    return module


def _load(file: IO[bytes], **options: Any) -> Any:  # noqa: ANN401
    return _Unpickler(file, **options).load()


def _tensors(module: object, prefix: str) -> collections.abc.Iterator[tuple[str, Tensor]]:
    """What ``module.state_dict()`` would give."""
    attributes = getattr(module, "__dict__", {})
    hidden = attributes.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (attributes.get(kind) or {}).items():
            if tensor is not None and name not in hidden:
                yield prefix + name, tensor
    for name, child in (attributes.get("_modules") or {}).items():
        yield from _tensors(child, f"{prefix}{name}.")


def _are_tensors(state: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(t, Tensor) for k, t in state.items())
