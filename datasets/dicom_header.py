"""The header of a DICOM file alone: as much as can be read of it, and in bounded memory."""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from arra_med.datasets.base import UnreadableImage
from arra_med.datasets.dicom_checks import GZIP, beyond_file_meta, quiet_pydicom
from arra_med.datasets.source_files import is_passing, read_start

MAX_HEADER = 64 * 2**20
"""Bytes; of a header that is longer, or swells further, the rest is not looked at."""
_FIRST = 2**20  # bytes; nearly all headers are shorter, and most files much longer
_BEGINNING = bytes(128) + b"DICM"
_FIRST_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x08")  # of a file without its preamble


def until_pixels(stream: BinaryIO, keywords: Sequence[str] | None = None) -> Dataset:
    """The elements before the pixels.

    Of a deflated data set, which pydicom would inflate whole, :data:`MAX_HEADER` bytes at most.

    Args:
        stream: a file that has its preamble and 'DICM' mark.
        keywords: of the elements that are wanted; ``None`` for all.

    Raises:
        Exception: of many classes, if it is damaged.
    """
    stream.seek(len(_BEGINNING))
    meta = read_dataset(stream, False, True, stop_when=beyond_file_meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        wanted = None if keywords is None else list(keywords)
        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=wanted)
    content = zlib.decompressobj(-15).decompress(stream.read(MAX_HEADER), MAX_HEADER)
    tags: list[BaseTag | int] = [
        BaseTag(tag_for_keyword(keyword) or 0) for keyword in keywords or ()
    ]
    dataset = read_dataset(
        io.BytesIO(content), False, True, stop_when=_at_pixels, specific_tags=tags or None
    )
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def whatever_header(path: Path) -> Dataset:
    """What can be read of a file's header: also gzipped, cut off, or without its preamble.

    Raises:
        WorkError: if the file cannot be read at the moment.
        Exception: of many classes, if nothing can be read.
    """
    for most in (_FIRST, MAX_HEADER):
        stream = io.BytesIO(_beginning(path, most))
        try:
            with quiet_pydicom():
                dataset = until_pixels(stream)
        except Exception as error:
            if is_passing(error) or most == MAX_HEADER:
                raise
        else:
            if stream.tell() < stream.getbuffer().nbytes:  # where the pixels begin
                break
    return dataset


def _beginning(path: Path, most: int) -> bytes:
    data = read_start(path, most)
    if data.startswith(GZIP):
        data = zlib.decompressobj(31).decompress(data, most)
    if data[128:132] == b"DICM":
        return data
    if data[:2] not in _FIRST_GROUPS:  # a file of zeros would be millions of elements
        raise UnreadableImage("not a DICOM file")
    return _BEGINNING + data


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group == 0x7FE0
