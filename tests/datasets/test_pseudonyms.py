"""Keyed hashes in place of ids: keys, samples and exclusions agree."""

import hashlib
import hmac
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from arra_med.datasets.privacy import (
    KEY_VARIABLE,
    key_fingerprint,
    load_key,
    pseudonym,
    pseudonymise,
    pseudonymise_exclusion,
)
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample, check_key

SECRET = b"0123456789abcdef"


def privacy(hash_ids: bool = True, key_file: Path | None = None) -> SimpleNamespace:
    return SimpleNamespace(hash_ids=hash_ids, key_file=key_file)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert load_key(privacy(hash_ids=False)) is None
    with pytest.raises(RequestError, match="openssl rand -hex 32"):
        load_key(privacy())
    monkeypatch.setenv(KEY_VARIABLE, SECRET.decode())
    assert load_key(privacy()) == SECRET
    path = tmp_path / "key"
    with pytest.raises(RequestError, match="cannot be read"):
        load_key(privacy(key_file=path))
    path.write_bytes(SECRET + b"\n")
    assert load_key(privacy(key_file=path)) == SECRET
    path.write_bytes(b"short\n")
    with pytest.raises(RequestError, match="has 5 bytes, expected 16") as error:
        load_key(privacy(key_file=path))
    assert "short" not in str(error.value)


def test_pseudonyms_are_hmacs() -> None:
    expected = hmac.new(SECRET, b"patient\x0010000032", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(SECRET, "patient", "10000032") == expected
    assert pseudonym(SECRET, "study", "10000032") != expected
    assert pseudonym(b"another key 1234", "patient", "10000032") != expected
    assert re.fullmatch("[0-9a-f]{12}", key_fingerprint(SECRET))
    assert key_fingerprint(SECRET) != key_fingerprint(SECRET + b"0")


def sample(key: str = "p10000032/s50414267/abc", patient: str = "10000032") -> Sample:
    return Sample(
        key=key, patient_id=patient, study_id="50414267", split="test", view="PA", prompt="text",
        prompt_source="findings", labels={}, modality="cxr", source="files/p10/x.dcm",
        text_source="files/p10/s50414267.txt",
    )  # fmt: skip


def test_samples_and_exclusions_agree() -> None:
    one, other = pseudonymise(sample(), SECRET), pseudonymise(sample("p10000032/s1/d"), SECRET)
    patient, study, _item = one.key.split("/")
    assert patient == f"p{one.patient_id}"
    assert study == f"s{one.study_id}"
    assert check_key(one.key) == one.key
    assert other.key.split("/")[0] == patient
    assert other.patient_id == one.patient_id
    assert (one.split, one.view, one.prompt, one.text_source) == ("test", "PA", "text", "")
    assert not re.search("10000032|50414267|abc|files", repr(one))
    exclusion = Exclusion(
        item=sample().key,
        source=sample().source,
        reason="duplicate-key",
        detail="p10000032/s50414267/abc is there twice; s50414267 has files/p10/x.dcm",
    )
    hashed = pseudonymise_exclusion(exclusion, SECRET)
    assert hashed.item == one.key
    assert hashed.source == one.source
    assert hashed.reason == "duplicate-key"
    assert hashed.detail == f"{one.key} is there twice; {study} has {one.source}"
    plain = Exclusion(item="a b.png", source="", reason="r", detail="d")
    assert pseudonymise_exclusion(plain, SECRET).source == ""
    assert pseudonymise_exclusion(plain, SECRET).item == pseudonymise(sample("a b.png"), SECRET).key
