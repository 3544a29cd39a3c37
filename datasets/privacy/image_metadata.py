"""The texts in a plain picture's metadata: EXIF, XMP, PNG text chunks, comments."""

import re
import warnings
from collections.abc import Iterator
from typing import IO, Any

from PIL import ExifTags, Image

from arra_med.datasets.privacy.png_chunks import png_texts
from arra_med.datasets.source_files import is_passing

_EXIF = (
    "Artist", "ImageDescription", "Copyright", "HostComputer", "DocumentName", "XPAuthor",
    "XPComment", "XPTitle", "XPSubject", "XPKeywords", "UserComment", "CameraOwnerName",
    "BodySerialNumber", "LensSerialNumber", "ImageUniqueID",
)  # fmt: skip
_XMP_NAMES = (
    "creator|title|description|subject|rights|Owner|Author|Artist|Credit|Headline|Copyright|"
    "ImageDescription|UserComment|OwnerName"
)
_XMP = re.compile(rf"<([a-zA-Z]+:({_XMP_NAMES}))\b[^>]*>(.{{0,4096}}?)</\1>", re.DOTALL)
_XMP_ATTRIBUTE = re.compile(rf"\b[a-zA-Z]+:({_XMP_NAMES})=[\"']([^\"'<]{{1,1024}})")
_XMP_ITEM = re.compile(r"<rdf:li\b[^>]*>(.*?)</rdf:li>", re.DOTALL)
_PNG = frozenset(
    """
    author artist title description copyright comment source disclaimer warning software creator
    owner photographer patient patientname patientid mrn birthdate patientbirthdate dob
    """.split()  # noqa: SIM905 - a list of words
)


def image_texts(picture: Image.Image) -> list[tuple[str, str]]:
    """Each text that may identify somebody, with where it stood; never raises.

    Args:
        picture: fresh from ``Image.open``; its pixels are not decoded.

    Returns:
        Pairs such as ``("EXIF Artist", text)``.
    """
    found: list[tuple[str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for reader in (_exif, _comments, _png, _xmp):
            try:
                found += reader(picture)
            except Exception as error:
                if is_passing(error):
                    raise
                continue
    return found


def _exif(picture: Image.Image) -> Iterator[tuple[str, str]]:
    if picture.format == "PNG":  # its getexif() decodes the pixels; see png_texts
        return
    exif = picture.getexif()
    names = {tag.value: tag.name for tag in ExifTags.Base}
    for values in (dict(exif), exif.get_ifd(ExifTags.IFD.Exif)):
        yield from _exif_texts(values, names)


def _exif_texts(values: dict[int, Any], names: dict[int, str]) -> Iterator[tuple[str, str]]:
    for number, value in values.items():
        name = names.get(number, "")
        if name in _EXIF:
            yield f"EXIF {name}", _exif_text(name, value)


def _exif_text(name: str, value: Any) -> str:  # noqa: ANN401 - text, bytes or a tuple of numbers
    if isinstance(value, tuple):
        value = bytes(value)
    if not isinstance(value, bytes):
        return str(value)
    if name.startswith("XP"):
        return value.decode("utf-16-le", "replace").rstrip("\0")
    code, text = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        return text.decode("utf-16-be" if text[:1] == b"\0" else "utf-16", "replace")
    return (text if code.startswith((b"ASCII", b"\0\0\0\0")) else value).decode("utf-8", "replace")


def _comments(picture: Image.Image) -> Iterator[tuple[str, str]]:
    comment = picture.info.get("comment")
    if comment:
        text = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
        yield f"{picture.format} comment", text


def _png(picture: Image.Image) -> Iterator[tuple[str, str]]:
    file: IO[bytes] | None = getattr(picture, "fp", None)
    if picture.format != "PNG" or file is None:
        return
    position = file.tell()
    try:
        file.seek(0)
        chunks = list(png_texts(file))
    finally:
        file.seek(position)
    names = {tag.value: tag.name for tag in ExifTags.Base}
    for keyword, data in chunks:
        if keyword == "exif" and isinstance(data, bytes):
            exif = Image.Exif()
            exif.load(data)
            for values in (dict(exif), exif.get_ifd(ExifTags.IFD.Exif)):
                yield from _exif_texts(values, names)
        elif keyword == "XML:com.adobe.xmp":
            yield from _xmp_texts(str(data))
        else:
            # A keyword can be any text, also a name: only those that tools write are repeated.
            yield f"PNG {keyword if keyword.lower() in _PNG else 'text'}", str(data)


def _xmp(picture: Image.Image) -> Iterator[tuple[str, str]]:
    packet = picture.info.get("xmp", b"")
    if isinstance(packet, bytes):
        packet = packet[: 1 << 16].decode("utf-8", "replace")
    yield from _xmp_texts(str(packet))


def _xmp_texts(packet: str) -> Iterator[tuple[str, str]]:
    # Not parsed as XML: hostile entities cost nothing this way, and broken packets are common.
    packet = packet[: 1 << 16]
    for found in _XMP.finditer(packet):
        for text in _XMP_ITEM.findall(found[3]) or [found[3]]:
            yield f"XMP {found[2]}", re.sub(r"<[^>]*>", " ", text)
    for attribute in _XMP_ATTRIBUTE.finditer(packet):
        yield f"XMP {attribute[1]}", attribute[2]
