"""Folders that stages write and read: in parts, atomically, resumably, manifest last.

A folder without ``manifest.json`` is not finished and no reader opens it. A stage writes its
output in numbered parts; each part's files are written under a temporary name, renamed, and only
then marked as done in ``.partial/``. Running the same command again does what is missing and
gives the same bytes as an undisturbed run; running it with another configuration is refused.
"""

from arra_med.store.caches import Cache, vector_table
from arra_med.store.files import (
    MANIFEST,
    PARTIAL,
    RUN_CONFIG,
    ByteStream,
    Content,
    TableStream,
    canonical_json,
    check_files,
    content_hash,
    difference,
    fingerprint,
    library_versions,
    read_manifest,
    sampled_sha256,
    save_run_record,
    sha256_bytes,
    sha256_file,
    verify,
    write_atomic,
)
from arra_med.store.locks import locked, try_lock, waiting_lock
from arra_med.store.parts import PartWriter, Shard
from arra_med.store.prepared import PicturePlace, PreparedFolder

__all__ = [
    "MANIFEST",
    "PARTIAL",
    "RUN_CONFIG",
    "ByteStream",
    "Cache",
    "Content",
    "PartWriter",
    "PicturePlace",
    "PreparedFolder",
    "Shard",
    "TableStream",
    "canonical_json",
    "check_files",
    "content_hash",
    "difference",
    "fingerprint",
    "library_versions",
    "locked",
    "read_manifest",
    "sampled_sha256",
    "save_run_record",
    "sha256_bytes",
    "sha256_file",
    "try_lock",
    "vector_table",
    "verify",
    "waiting_lock",
    "write_atomic",
]
