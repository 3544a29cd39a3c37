"""Pseudonyms: keyed hashes (HMAC-SHA256, RFC 2104) in place of patient and study ids.

Without the key nobody can try out patient numbers.
"""

import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_dict, tag_for_keyword

from arra_med.datasets.privacy.folder_scan import IMAGE_METADATA
from arra_med.datasets.privacy.identifiers import is_column, is_own_id, kind_of
from arra_med.datasets.privacy.redaction import Leak
from arra_med.errors import RequestError, did_you_mean
from arra_med.schema import Exclusion, Sample

if TYPE_CHECKING:
    from arra_med.settings import Privacy

KEY_VARIABLE = "ARRA_MED_HASH_KEY"
"""Environment variable that holds the secret key where no file does."""

_SHORTEST_KEY = 16
_REMEDY = "make one with 'openssl rand -hex 32 > key', keep it secret, and name it in {setting}"


def check_tags(privacy: "Privacy", id_tags: Collection[str]) -> None:
    """Refuse names of tags that do not exist, and ids that the scan would find at the end.

    Args:
        privacy: the settings.
        id_tags: header tags whose values would stand in the output as they are.

    Raises:
        RequestError: naming all of them, with the remedies.
    """
    for tag in privacy.allow:
        if tag.isalnum() and tag_for_keyword(tag) is None:
            hint = did_you_mean(tag, keyword_dict)
            raise RequestError(f"ingest.privacy.allow names {tag!r}, which is no DICOM tag{hint}")
    if id_tags and privacy.scan and not privacy.hash_ids:
        tags = ", ".join(sorted(id_tags))
        raise RequestError(
            f"{tags} of the headers would stand in the output as they are. Replace them by keyed "
            "hashes (ingest.privacy.hash_ids=true); or, if they are pseudonyms already, say so "
            f"(ingest.privacy.allow=[{tags}])"
        )


def load_key(privacy: "Privacy") -> bytes | None:
    """The secret key of the hashes, or ``None`` if ids are kept.

    Raises:
        RequestError: if it is missing, unreadable or shorter than 16 bytes, with the remedy.
    """
    if not privacy.hash_ids:
        return None
    remedy = _REMEDY.format(setting=f"ingest.privacy.key_file or put it into ${KEY_VARIABLE}")
    if privacy.key_file is None:
        where, secret = f"${KEY_VARIABLE}", os.environ.get(KEY_VARIABLE, "").encode()
        if not secret:
            raise RequestError(f"privacy.hash_ids needs a secret key and there is none: {remedy}")
    else:
        where = str(privacy.key_file)
        try:
            secret = privacy.key_file.read_bytes()
        except OSError as error:
            raise RequestError(
                f"the secret key {where} cannot be read ({type(error).__name__}): {remedy}"
            ) from error
    secret = secret.strip(b"\r\n")
    if len(secret) < _SHORTEST_KEY:
        raise RequestError(
            f"the secret key in {where} has {len(secret)} bytes, expected {_SHORTEST_KEY} or "
            f"more: {remedy}"
        )
    return secret


def key_fingerprint(key: bytes) -> str:
    """12 hex digits that tell keys apart and give nothing away; safe to store."""
    return hmac.new(key, b"arra_med key fingerprint", hashlib.sha256).hexdigest()[:12]


def pseudonym(key: bytes, kind: str, value: str) -> str:
    """What stands for an id: 16 hex digits, the same for equal ``kind`` and ``value``.

    Two of a million ids are given the same with a probability of 3e-8.
    """
    message = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


def pseudonymise(sample: Sample, key: bytes) -> Sample:
    """A sample whose key, patient, study and source are pseudonyms.

    Keys keep their number of parts, and MIMIC's ``p`` and ``s`` in front; ids that were equal
    stay equal. Splits are not touched: they must have been decided on the original ids.
    """
    return replace(
        sample,
        key=_key(key, sample.key),
        patient_id=_filled(key, "patient", sample.patient_id),
        study_id=_filled(key, "study", sample.study_id),
        source=_filled(key, "source", sample.source),
        text_source="",
    )


def pseudonymise_exclusion(exclusion: Exclusion, key: bytes) -> Exclusion:
    """An exclusion whose item is the key that :func:`pseudonymise` would have given it.

    Where its detail repeats the item, a part of it, or the source, they are replaced there, too.
    """
    item, source = _key(key, exclusion.item), _filled(key, "source", exclusion.source)
    known = {exclusion.item: item, exclusion.source: source}
    for old, new in zip(exclusion.item.split("/"), item.split("/"), strict=True):
        known.setdefault(old, new)
    detail = exclusion.detail
    for old in sorted(known, key=len, reverse=True):
        if len(old) >= 4:  # shorter ones are words and numbers of the sentence
            detail = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", known[old], detail)
    return replace(exclusion, item=item, source=source, detail=detail)


def _filled(key: bytes, kind: str, value: str) -> str:
    return pseudonym(key, kind, value) if value else value


def _key(key: bytes, text: str) -> str:
    """A key's pseudonym, from the key alone, because an exclusion knows nothing else."""
    return "/".join(_key_part(key, part) for part in text.split("/"))


def _key_part(key: bytes, part: str) -> str:
    mimic = re.fullmatch(r"([ps])(\d+)", part)
    if mimic:
        kind = {"p": "patient", "s": "study"}[mimic[1]]
        return mimic[1] + pseudonym(key, kind, mimic[2])
    return _filled(key, "item", part)


def leak_message(leaks: Iterable[Leak], table: Path) -> str:
    """What to tell whoever started an ingest that found identifiers: where, and what to do.

    Args:
        leaks: what was found.
        table: where :mod:`arra_med.datasets.privacy.findings` lists the rows.
    """
    counts = Counter(leaks)
    listed = [
        f"{leak.tag} in {leak.where}{f' ({number} times)' if number > 1 else ''}"
        for leak, number in sorted(counts.items(), key=lambda pair: (pair[0].tag, pair[0].where))
    ]
    tags = sorted({leak.tag for leak in counts})
    remedies = []
    named = [tag for tag in tags if tag != IMAGE_METADATA]
    of_columns = [tag for tag in named if is_column(tag)]
    of_ids = [tag for tag in named if is_own_id(tag)]
    of_headers = [tag for tag in named if tag not in (*of_columns, *of_ids)]
    if named and not of_ids:
        remedies.append("replace ids by keyed hashes (ingest.privacy.hash_ids=true, if it is off)")
    if of_headers:
        ids = [tag for tag in of_headers if kind_of(tag) in ("id", "uid")] or of_headers[:1]
        remedies.append(
            f"allow tags that hold pseudonyms already (ingest.privacy.allow=[{', '.join(ids)}])"
        )
    if of_columns:
        remedies.append("take columns that identify nobody out of ingest.dataset.name_columns")
    if named:
        remedies.append(
            "remove names and numbers from reports and file names, with "
            "ingest.privacy.whitelist=true if it is off"
        )
    if IMAGE_METADATA in tags:
        remedies.append("delete the folder and ingest again, so that pictures hold pixels only")
    sources = " and ".join(
        words
        for words, given in (
            ("the pictures' own headers", of_headers or not named),
            ("columns of names", of_columns),
            ("the ids that hashes replace", of_ids),
        )
        if given
    )
    more = f"; and {len(listed) - 20} more" if len(listed) > 20 else ""
    return (
        f"identifiers from {sources} would stand in the output, so it is not "
        f"finished: {'; '.join(listed[:20])}{more}. {table} says in which rows (and not what). To "
        f"do: {', or '.join(remedies)}. Then delete the output folder, in which they may stand, "
        "and ingest again"
    )
