"""Broken DICOM files from good ones, and a process that tries to render them.

    python -m tests.datasets.mutations COUNT SEED [FOLDER]

It has 2 GiB of memory; what crashes it, hangs it or raises anything but UnreadableImage is a bug.
"""

import copy
import io
import json
import re
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom import render_bytes
from arra_med.datasets.dicom_codecs import DECODERS, NATIVE
from tests.datasets.films import films

LARGEST_ORIGINAL = 1_100_000
NUMBERS = [0, 1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 32, 64, 255, 256, 32768, 65535]
HOSTILE = {
    **dict.fromkeys(
        ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
         "SamplesPerPixel", "PixelPaddingValue", "PixelPaddingRangeLimit"), NUMBERS,
    ),
    "NumberOfFrames": ["0", "1", "2", "-1", "99999999"],
    "PhotometricInterpretation": ["MONOCHROME1", "RGB", "PALETTE COLOR", "", "DOE^JOHN"],
    "PresentationLUTShape": ["INVERSE", "IDENTITY", "LIN OD"],
    "VOILUTFunction": ["LINEAR", "LINEAR_EXACT", "SIGMOID", "DOE^JOHN"],
    **dict.fromkeys(
        ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"),
        ("0", "1", "-1", "1e300", "-1e300", "1e-300", "nan", "inf", "0.5", ["1", "2"], ""),
    ),
    "PixelData": [b"", b"\0\0", bytes(10**6)],
}  # fmt: skip


def broken_lut(rng):
    lut = Dataset()
    count = int(rng.choice(NUMBERS))
    lut.LUTDescriptor = [count, int(rng.choice(NUMBERS)), int(rng.choice(NUMBERS))]
    lut.add_new("LUTData", "OW", rng.bytes(2 * int(rng.choice([0, 1, 8, 256, count]))))
    return lut


def edited(original, rng):
    """One to three tags changed, removed, or lookup tables planted."""
    dataset = copy.deepcopy(pydicom.dcmread(io.BytesIO(original), force=True))
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(10)
        if kind == 0:
            name = str(rng.choice(["VOILUTSequence", "ModalityLUTSequence"]))
            setattr(dataset, name, [broken_lut(rng)])
        elif kind == 1:
            every = [*NATIVE, *DECODERS, UID("1.2.3"), UID("1.2.840.10008.1.2.4.100")]
            dataset.file_meta.TransferSyntaxUID = every[rng.integers(len(every))]
        elif kind == 2:
            tags = list(dataset.keys())
            if tags:
                del dataset[tags[rng.integers(len(tags))]]
        else:
            name = list(HOSTILE)[rng.integers(len(HOSTILE))]
            setattr(dataset, name, HOSTILE[name][rng.integers(len(HOSTILE[name]))])
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def mutated(original, rng):
    """A copy with bytes of its header or of all of it changed, cut off, or with other tags."""
    kind = rng.integers(4)
    if kind == 3:
        try:
            return edited(original, rng)
        except Exception:  # noqa: BLE001 - pydicom refuses to write it: break bytes instead
            kind = rng.integers(3)
    data = bytearray(original)
    if kind == 2:
        return bytes(data[: rng.integers(1, len(data))])
    end = min(len(data), 1500) if kind == 0 else len(data)
    for place in rng.integers(min(128, end - 1), end, rng.integers(1, 9)):
        data[place] = rng.choice([0, 1, 255, rng.integers(256)])
    return bytes(data)


def originals(folder):
    found = films()
    if folder is not None:
        found = {}
        for path in sorted(folder.rglob("*.*")):
            if path.name != "index.csv" and 0 < path.stat().st_size < LARGEST_ORIGINAL:
                found[path.name] = path.read_bytes()
        # mostly files that are read when nothing is changed, so that decoders meet nonsense too
        many = [name for name in found if name.startswith("TC")]
        for name in many[12:]:
            del found[name]
    return found


def main(count, seed, folder):
    warnings.simplefilter("ignore")
    status = Path("/proc/self/status").read_text()
    now = int(re.search(r"VmSize:\s+(\d+) kB", status)[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 2**30, now + 2 * 2**30))
    rng = np.random.default_rng(seed)
    files = originals(folder)
    names, reasons, slowest, rendered = list(files), Counter(), 0.0, 0
    for index in range(count):
        name = names[index % len(names)]
        data = mutated(files[name], rng)
        style = ("mimic-jpg", "clinical")[rng.integers(2)]
        begun = time.process_time()
        try:
            picture = render_bytes(data, style)
            assert (picture.dtype, picture.ndim) == (np.uint8, 2)
            rendered += 1
        except UnreadableImage as error:
            said = str(error)
            assert not re.search("0x[0-9a-f]{5}|DOE|Planted|Memory|^.{300}", said), said
            reasons[re.sub(r"\d+", "#", said)] += 1
        except BaseException as error:
            raise SystemExit(f"mutation {index} of {name} raised {error!r}") from error
        slowest = max(slowest, time.process_time() - begun)
    print(json.dumps({"rendered": rendered, "slowest": slowest, "reasons": reasons}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
