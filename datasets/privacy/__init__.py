"""The de-identification guard: what keeps identifiers out of a prepared folder.

:class:`Redactor` and :func:`own_leaks` look for the identifiers of a picture's own header,
:class:`Watch` and :func:`scan_folder` for everybody's; pseudonyms are keyed hashes.
"""

from arra_med.datasets.privacy import findings
from arra_med.datasets.privacy.folder_scan import scan_folder
from arra_med.datasets.privacy.identifiers import column_identifiers, own_identifiers
from arra_med.datasets.privacy.pseudonyms import (
    KEY_VARIABLE,
    check_tags,
    key_fingerprint,
    leak_message,
    load_key,
    pseudonym,
    pseudonymise,
    pseudonymise_exclusion,
)
from arra_med.datasets.privacy.redaction import Leak, Redactor, own_leaks
from arra_med.datasets.privacy.watch import Watch

__all__ = [
    "KEY_VARIABLE",
    "Leak",
    "Redactor",
    "Watch",
    "check_tags",
    "column_identifiers",
    "findings",
    "key_fingerprint",
    "leak_message",
    "load_key",
    "own_identifiers",
    "own_leaks",
    "pseudonym",
    "pseudonymise",
    "pseudonymise_exclusion",
    "scan_folder",
]
