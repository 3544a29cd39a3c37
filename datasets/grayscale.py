"""From stored values to grey levels, through tables.

A film has millions of pixels but at most 65,536 different values, so everything is computed once
for each value and then looked up. Arithmetic on the pixels themselves would take ten times as
long and, in float64, eight times the memory.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom_checks import code


def mimic_jpg(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """MIMIC-CXR-JPG's procedure up to JPEG encoding.

    Stored values minus their minimum, over the maximum, times 255, truncated; inverted if
    MONOCHROME1; histogram equalised. A constant picture stays constant.

    Args:
        dataset: the header.
        stored: ``(H, W)`` uint8, int8, uint16 or int16.

    Returns:
        ``(H, W)`` uint8.
    """
    low, high = float(stored.min()), float(stored.max())
    values = _every_value(stored.dtype).clip(low, high)
    values -= low
    if high > low:
        values /= high - low
    values *= 255
    table = values.astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    return equalize_histogram(look_up(table, stored))


def equalize_histogram(picture: np.ndarray) -> np.ndarray:
    """Histogram equalisation as OpenCV's ``equalizeHist`` computes it: float32 scale, rounded.

    Args:
        picture: ``(H, W)`` uint8.

    Returns:
        ``(H, W)`` uint8.
    """
    counts = np.array(Image.fromarray(picture).histogram())  # a seventh of np.bincount's time
    darkest = int(np.flatnonzero(counts)[0])
    rest = picture.size - int(counts[darkest])
    if rest == 0:
        return picture.copy()
    counts[darkest] = 0
    scale = np.float32(255) / np.float32(rest)
    levels = np.rint(np.cumsum(counts).astype(np.float32) * scale)
    return look_up(levels.clip(0, 255).astype(np.uint8), picture)


def clinical(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """What a viewer shows: modality LUT, VOI LUT or first window, inverted once if at all.

    Without VOI LUT and window the range of the values is stretched. MONOCHROME1 and a presentation
    LUT shape INVERSE mean the same inversion. Padding is black and sets no range (PS3.3
    C.7.5.1.1.2: it lies outside the picture and the grey-scale pipeline).

    Args:
        dataset: the header.
        stored: ``(H, W)`` uint8, int8, uint16 or int16.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UnreadableImage: if a table or function is not one of the standard's.
    """
    stored_values = _every_value(stored.dtype)
    padding = _padding(dataset, stored.dtype)
    values = _modality(dataset, stored_values)
    window = _window(dataset)
    if dataset.get("VOILUTSequence"):
        entries, first, depth = _lookup_table(dataset, dataset.VOILUTSequence[0], values)
        places = (np.rint(values) - first).clip(0, len(entries) - 1).astype(np.intp)
        shown = entries[places] / (2**depth - 1)
    elif window is not None:
        shown = _windowed(values, *window)
    else:
        visible = values[_occurring(stored, stored_values) & ~padding]
        low, high = (visible.min(), visible.max()) if visible.size else (0.0, 0.0)
        shown = (values - low) / (high - low) if high > low else np.zeros_like(values)
    table: np.ndarray = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
    if (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    ):
        table = 255 - table
    table[padding] = 0
    return look_up(table, stored)


def look_up(table: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Replace every pixel by its entry.

    Arrow gathers with 8- and 16-bit indices as they are, in 3.2 ms a film of 7.8 million pixels;
    numpy makes 64-bit ones of them and takes 15 ms, or 7 ms in pieces that stay in the cache.

    Args:
        table: 256 or 65,536 uint8 entries, those of negative values at the end.
        stored: ``(H, W)`` integers of 8 or 16 bits.

    Returns:
        ``(H, W)`` uint8, read-only.
    """
    indices = np.ascontiguousarray(stored).reshape(-1).view(f"u{stored.itemsize}")
    picture = pc.take(pa.array(table), pa.array(indices)).to_numpy(zero_copy_only=True)
    return np.asarray(picture).reshape(stored.shape)


def _every_value(dtype: np.dtype[Any]) -> np.ndarray:
    """All values a pixel can have, as float64, in the order of :func:`look_up`'s tables."""
    unsigned = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return unsigned.view(dtype).astype(np.float64)


def _occurring(stored: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which values there are in a picture."""
    counts = np.zeros(values.size, np.int64)
    flat = stored.reshape(-1).view(f"u{stored.itemsize}")
    for start in range(0, flat.size, 2**20):
        counts += np.bincount(flat[start : start + 2**20], minlength=values.size)
    return counts > 0


def _padding(dataset: Dataset, dtype: np.dtype[Any]) -> np.ndarray:
    """Which values are padding: one, or a range of them with both its ends."""
    values = _every_value(dtype)
    ends = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    bits = 8 * dtype.itemsize
    # some write a signed value as unsigned, or the reverse: the bits are what they meant
    known = [
        values[int(end) % 2**bits] for end in ends if end is not None and abs(int(end)) < 2**bits
    ]
    if not known or ends[0] is None:
        return np.zeros(values.size, bool)
    return np.asarray((values >= min(known)) & (values <= max(known)))


def _modality(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """Stored values to the modality's unit (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        entries, first, _ = _lookup_table(dataset, dataset.ModalityLUTSequence[0], values)
        return np.asarray(entries[(values - first).clip(0, len(entries) - 1).astype(np.intp)])
    slope, intercept = (_first(dataset.get(f"Rescale{name}")) for name in ("Slope", "Intercept"))
    if slope == 0:
        raise UnreadableImage("its rescale slope is 0, which makes all values equal")
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _lookup_table(
    dataset: Dataset, item: Dataset, values: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """A LUT's entries as float64, the value that its first one is for, and bits an entry."""
    count, first, depth = (int(number) for number in item.LUTDescriptor)
    count = count % 2**16 or 2**16
    if not 8 <= depth <= 16:
        raise UnreadableImage(f"a lookup table has entries of {depth} bits; expected 8 to 16")
    if first >= 2**15 and values.min() < 0:  # a negative number, read as unsigned
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        little = dataset.file_meta.TransferSyntaxUID.is_little_endian
        words = np.frombuffer(data, "<u2" if little else ">u2").astype(np.uint16)
    else:
        words = (np.atleast_1d(np.array(data, np.int64)) % 2**16).astype(np.uint16)
    if depth == 8 and 2 * words.size in (count, count + 1):  # two entries a word
        words = words.astype("<u2").view(np.uint8).astype(np.uint16)
    if words.size < count:
        raise UnreadableImage(f"a lookup table has {words.size} entries where it declares {count}")
    entries = words[:count].astype(np.float64)
    if entries.max() > 2**depth - 1:
        raise UnreadableImage(f"a lookup table's entries exceed the {depth} bits it declares")
    return entries, first, depth


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; ``None`` if there is none that is valid."""
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        shown = code(dataset, "VOILUTFunction")
        raise UnreadableImage(f"its VOI LUT function ({shown}) is none of the standard's")
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return center, width, function


def _windowed(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Values to [0, 1] (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp((-4 * (values - center) / width).clip(-700, 700))))
    if function == "LINEAR_EXACT":
        return ((values - center) / width + 0.5).clip(0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def _first(value: Any) -> float | None:  # noqa: ANN401 - a DICOM value of any multiplicity
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple, MultiValue)):
        return _first(value[0]) if len(value) else None
    number = float(value)
    return number if np.isfinite(number) else None
