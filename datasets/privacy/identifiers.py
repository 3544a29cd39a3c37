"""What a picture's header says about a person: the tags, and their values.

The tags are those that DICOM PS3.15 Annex E (basic confidentiality profile) removes because they
name a person or an examination, every person name (VR PN) anywhere, and their like in EXIF, XMP,
PNG and JPEG comments. Values are only ever compared with what would be written, never written.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from PIL import Image
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from arra_med.datasets.base import Identifier
from arra_med.datasets.dicom_checks import quiet_pydicom
from arra_med.datasets.privacy.dates import is_date
from arra_med.datasets.privacy.image_metadata import image_texts
from arra_med.datasets.privacy.readings import as_utf8, other_readings, whole_words
from arra_med.datasets.source_files import is_passing
from arra_med.schema import Sample

Kind: TypeAlias = Literal["name", "id", "date", "uid", "phrase", "free"]
"""How a value is looked for in text: see :mod:`arra_med.datasets.privacy.matching`."""

WHITELIST = frozenset(
    """
    Modality SOPClassUID ImageType ConversionType PresentationIntentType
    BodyPartExamined ViewPosition Laterality ImageLaterality PatientOrientation PatientPosition
    ViewCodeSequence ViewModifierCodeSequence AnatomicRegionSequence
    PatientOrientationCodeSequence PatientOrientationModifierCodeSequence
    CodeValue CodeMeaning CodingSchemeDesignator
    PatientSex QualityControlImage PartialView BurnedInAnnotation
    Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel
    PhotometricInterpretation PlanarConfiguration NumberOfFrames PresentationLUTShape
    PixelSpacing ImagerPixelSpacing PixelAspectRatio WindowCenter WindowWidth VOILUTFunction
    RescaleIntercept RescaleSlope RescaleType LossyImageCompression LossyImageCompressionRatio
    Manufacturer ManufacturerModelName SoftwareVersions
    KVP Exposure ExposureTime XRayTubeCurrent DistanceSourceToDetector DistanceSourceToPatient
    Grid FilterType DetectorType FieldOfViewShape FieldOfViewDimensions
    """.split()  # noqa: SIM905 - a list of words
)
"""DICOM keywords whose values may be read into outputs: none says who was pictured, where or when.

Ages (over 89 they identify), dates and free text such as descriptions are left out on purpose.
"""

ID_TAGS = frozenset({"PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"})
"""Keywords that may be read as a sample's ids, and as nothing else."""

_ID = frozenset(
    """
    PatientID OtherPatientIDs AccessionNumber StudyID AdmissionID ServiceEpisodeID
    RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID MedicalRecordLocator
    PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
    PlacerOrderNumberProcedure FillerOrderNumberProcedure SpecimenAccessionNumber
    PatientTelephoneNumbers ReferringPhysicianTelephoneNumbers PersonTelephoneNumbers
    OrderCallbackPhoneNumber DeviceSerialNumber DetectorID
    """.split()  # noqa: SIM905 - a list of words
)
_DATE = frozenset({"PatientBirthDate", "PatientBirthDateInAlternativeCalendar"})
_PHRASE = frozenset(
    """
    PatientAddress ReferringPhysicianAddress PersonAddress InstitutionName InstitutionAddress
    ResponsibleOrganization CurrentPatientLocation PatientInstitutionResidence
    """.split()  # noqa: SIM905 - a list of words
)
_UID = frozenset(
    """
    StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID
    ReferencedSOPInstanceUID MediaStorageSOPInstanceUID
    """.split()  # noqa: SIM905 - a list of words
)
_FREE = frozenset({"PatientComments", "ImageComments", "VisitComments"})
_PICTURE: dict[str, Kind] = {
    "artist": "name", "author": "name", "xpauthor": "name", "creator": "name", "owner": "name",
    "copyright": "name", "rights": "name", "cameraownername": "name", "photographer": "name",
    "hostcomputer": "phrase", "bodyserialnumber": "id", "lensserialnumber": "id",
    "imageuniqueid": "id", "patientname": "name", "patientid": "id", "patient": "name",
    "mrn": "id", "patientbirthdate": "date", "birthdate": "date", "dob": "date",
}  # fmt: skip

_DATE_COLUMN = "date column "  # a tag starts so
_OWN_IDS = ("patient id", "study id")

_MAX_ELEMENTS, _MAX_DEPTH = 20_000, 8
_MAX_SEQUENCE, _MAX_VALUE, _MAX_VALUES = 1 << 20, 1024, 64
_ONE_TEXT = frozenset({"LT", "ST", "UT"})  # value representations where a backslash is one


def kind_of(tag: str) -> Kind:
    """How values of an identifier's tag are to be looked for."""
    source, _, rest = tag.partition(" ")
    if tag.startswith(_DATE_COLUMN):
        return "date"
    if is_own_id(tag):
        return "id"
    if source in ("private", "unknown", "column", "columns"):
        return "name"
    if rest:
        return _PICTURE.get(rest.replace(" ", "").replace("_", "").lower(), "free")
    keyword = tag.rpartition(".")[2]
    kinds: tuple[tuple[Kind, frozenset[str]], ...] = (
        ("id", _ID),
        ("date", _DATE),
        ("phrase", _PHRASE),
        ("uid", _UID),
        ("free", _FREE),
    )
    return next((kind for kind, keywords in kinds if keyword in keywords), "name")


def dicom_identifiers(dataset: Dataset) -> tuple[Identifier, ...]:
    """What a DICOM header says about a person or an examination.

    Walks the file meta group, the header and its sequences (to a depth of 8 and 20,000 elements);
    no pixels, no value over 1,024 characters and no sequence over 1 MiB is decoded. A broken
    element is skipped: what cannot be read cannot be copied either. Values that are not ASCII are
    given in every plausible encoding, because many headers declare none or the wrong one.

    Args:
        dataset: as ``pydicom.dcmread`` gives it.

    Returns:
        Distinct identifiers, in the header's order. Elements of sequences are called
        ``<sequence>.<keyword>``, private names ``private (gggg,eeee)``.
    """
    budget = [_MAX_ELEMENTS]
    with quiet_pydicom():
        meta = getattr(dataset, "file_meta", None)
        parts = [meta, dataset] if isinstance(meta, Dataset) else [dataset]
        found = [one for part in parts for one in _walk(part, "", 0, budget)]
    return _distinct(found)


def _walk(dataset: Dataset, prefix: str, depth: int, budget: list[int]) -> Iterator[Identifier]:
    for tag in list(dataset.keys()):
        budget[0] -= 1
        if budget[0] < 0:
            return
        try:
            yield from _element(dataset, tag, prefix, depth, budget)
        except Exception as error:
            if is_passing(error):
                raise
            continue


def _element(
    dataset: Dataset, tag: BaseTag, prefix: str, depth: int, budget: list[int]
) -> Iterator[Identifier]:
    if tag.group == 0x7FE0:
        return
    raw = dataset.get_item(tag, keep_deferred=True)
    vr, keyword = _vr(raw, tag), keyword_for_tag(tag)
    size = len(raw.value or b"") if isinstance(raw, RawDataElement) else 0
    if vr == "SQ":
        if depth < _MAX_DEPTH and size <= _MAX_SEQUENCE:
            for item in dataset[tag].value or ():
                yield from _walk(item, keyword or "private", depth + 1, budget)
        return
    private = tag.is_private and not tag.is_private_creator
    if size > _MAX_VALUE * 4 or not (private or _wanted(keyword, vr)):
        return
    name = keyword or f"{'private' if private else 'unknown'} {tag}"
    if keyword and prefix:
        name = f"{prefix}.{keyword}"
    written = raw.value if isinstance(raw, RawDataElement) else None
    for value in _readings(dataset[tag].value, written, vr, kind_of(name)):
        if not private or vr == "PN" or _looks_like_name(value):
            yield Identifier(name, value)


def _readings(value: Any, written: bytes | None, vr: str, kind: Kind) -> list[str]:  # noqa: ANN401 - a DICOM value
    """A value in the encoding that its header declares, and in others if it is not ASCII."""
    found = [*_values(value)]
    guesses = other_readings(written) if written and kind not in ("date", "uid") else []
    for text in guesses:
        found += _values(text if vr in _ONE_TEXT else text.split("\\"))
    return [*_values(whole_words(found))] if guesses and kind == "name" else found


def _vr(raw: Any, tag: BaseTag) -> str:  # noqa: ANN401 - a raw or a decoded element
    vr = raw.VR
    if vr in (None, "UN") and not tag.is_private:
        vr = dictionary_VR(tag)
    return str(vr)


def _wanted(keyword: str, vr: str) -> bool:
    return vr == "PN" or any(keyword in tags for tags in (_ID, _DATE, _PHRASE, _UID, _FREE))


def _values(value: Any) -> Iterator[str]:  # noqa: ANN401 - a DICOM value of any multiplicity
    many = not isinstance(value, (str, bytes)) and hasattr(value, "__getitem__")
    # A PersonName can be indexed like a text, but is one value.
    listed = list(value)[:_MAX_VALUES] if many and not hasattr(value, "family_name") else [value]
    for one in listed:
        text = one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one or "")
        text = text.strip("\0 \t\r\n")
        if text and len(text) <= _MAX_VALUE:
            yield text


def _looks_like_name(value: str) -> bool:
    """Whether a private value of unknown meaning is written like a DICOM name: ``DOE^JANE``."""
    return re.fullmatch(r"[^\W\d_][^\d_^]{1,63}\^[^\W\d_][^\d_]{0,63}", value) is not None


def image_identifiers(picture: Image.Image) -> tuple[Identifier, ...]:
    """What a plain picture's EXIF, XMP, text chunks and comments say about a person.

    Reads the header only, and leaves the file's position as it was.

    Args:
        picture: fresh from ``Image.open``.

    Returns:
        Distinct identifiers, called ``EXIF Artist``, ``PNG Author``, ``XMP creator``,
        ``JPEG comment`` and so on.
    """
    return _distinct(
        Identifier(tag, value)
        for tag, text in image_texts(picture)
        for reading in (text, as_utf8(text))
        for value in _values(reading)
    )


def column_identifiers(names: Mapping[str, str]) -> tuple[Identifier, ...]:
    """What columns of a table say about a person, called ``column <name>``.

    A date is looked for in every spelling and order, as a birth date of a header is; eight digits
    that may be one are looked for as a number too.
    Neighbouring columns of words may be one person's family and given name, so they are also taken
    together: everyday words (Hill, Grace) are told from ordinary text only as a whole name.

    Args:
        names: column → value, as :class:`arra_med.schema.Sample` has them.
    """
    each = [one for column, value in names.items() for one in _of_cell(column, value)]
    together = [
        Identifier(f"columns {one}, {two}", f"{names[one]}^{names[two]}")
        for one, two in itertools.pairwise(names)
        if not any(character.isdigit() for character in names[one] + names[two])
    ]
    return (*each, *together)


def _of_cell(column: str, value: str) -> Iterator[Identifier]:
    date = is_date(value)
    if date:
        yield Identifier(f"{_DATE_COLUMN}{column}", value)
    if not date or value.strip().isdecimal():
        yield Identifier(f"column {column}", value)


def own_identifiers(sample: Sample) -> tuple[Identifier, ...]:
    """A sample's patient and study id, wherever they come from: what hashes shall replace."""
    ids = (sample.patient_id, sample.study_id)
    return tuple(Identifier(tag, one) for tag, one in zip(_OWN_IDS, ids, strict=True) if one)


def is_own_id(tag: str) -> bool:
    """Whether an identifier is a sample's id, as the adapter gives it."""
    return tag in _OWN_IDS


def is_column(tag: str) -> bool:
    """Whether an identifier stood in a column of a table rather than in a header."""
    return tag.startswith(("column ", "columns ", _DATE_COLUMN))


def _distinct(found: Iterable[Identifier]) -> tuple[Identifier, ...]:
    standard = "1.2.840.10008."  # UIDs that DICOM itself gave out name no examination
    return tuple(dict.fromkeys(one for one in found if not one.value.startswith(standard)))
