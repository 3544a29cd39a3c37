"""DICOM files to 8-bit pictures.

``mimic-jpg`` is what the authors of MIMIC-CXR-JPG did (Johnson et al., arXiv 1901.07042), for
comparability; ``clinical`` is what a viewer shows. Everything that a decoder would trust is checked
before a pixel is allocated, and whatever is wrong with a file becomes one
:class:`UnreadableImage` with a reason.
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from arra_med.datasets import dicom_checks
from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom_codecs import check_pixel_data, decode
from arra_med.datasets.grayscale import clinical, mimic_jpg
from arra_med.datasets.source_files import is_special, patiently

Rendering = Literal["mimic-jpg", "clinical"]

MAX_PIXELS = dicom_checks.MAX_PIXELS
MAX_BYTES = dicom_checks.MAX_BYTES


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        UnreadableImage: if it is missing, empty, too large, no file or cannot be read.
        WorkError: if it cannot be read at the moment.
    """
    try:
        data = patiently(lambda: _content(path), str(path))
    except FileNotFoundError as error:
        raise UnreadableImage("the file is missing") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"the file cannot be read ({type(error).__name__})") from error
    if not data:
        raise UnreadableImage("the file is empty")
    return data


def _content(path: Path) -> bytes:
    if is_special(path):
        raise UnreadableImage("it is no file but a pipe, a socket or a device")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnreadableImage(f"{size} bytes are more than a picture needs ({MAX_BYTES})")
    return path.read_bytes()


def parse(data: bytes) -> Dataset:
    """The header of a DICOM file (also gzipped), and its pixels as they are in the file.

    Args:
        data: a file's content.

    Raises:
        UnreadableImage: if it is none, or is not one grey picture that somebody can decode.
    """
    with dicom_checks.reasons("its header is damaged and cannot be parsed"):
        content = dicom_checks.checked_container(data, MAX_BYTES)
        dataset = pydicom.dcmread(io.BytesIO(content))
    with dicom_checks.reasons("its header is damaged"):
        dicom_checks.check_header(dataset, MAX_PIXELS)
        check_pixel_data(dataset)
    return dataset


def render_dataset(dataset: Dataset, style: Rendering = "clinical") -> np.ndarray:
    """Render what :func:`parse` gave.

    Args:
        dataset: a checked header with its pixel data.
        style: ``mimic-jpg`` or ``clinical``.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UnreadableImage: if its pixels cannot be decoded or shown, saying why.
    """
    with dicom_checks.reasons("its pixels cannot be decoded", quote=True):
        stored = decode(dataset)
    with dicom_checks.reasons("its grey-scale tables cannot be applied"):
        return mimic_jpg(dataset, stored) if style == "mimic-jpg" else clinical(dataset, stored)


def render(path: Path, style: Rendering = "clinical") -> np.ndarray:
    """Read a DICOM file (also gzipped) and render it.

    Args:
        path: the file.
        style: ``mimic-jpg`` or ``clinical``.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UnreadableImage: if it cannot be, saying why.
    """
    return render_bytes(read_bytes(path), style)


def render_bytes(data: bytes, style: Rendering = "clinical") -> np.ndarray:
    """:func:`render` of a file's content."""
    return render_dataset(parse(data), style)
