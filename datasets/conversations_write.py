"""A prepared folder as ARRA's conversations JSON with PNG files, for people who go back to ARRA.

``train.json``, ``validate.json`` and ``test.json`` lie beside the pictures, ``<key>.png``, and name
them relative to the folder. The adapter ``conversations`` reads them back to the same keys,
prompts, splits and pixels. Labels have no place in this format.
"""

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from arra_med.datasets.conversations import EXTRA_FIELDS, IMAGE_MARK
from arra_med.errors import RequestError
from arra_med.schema import SPLITS
from arra_med.store import PreparedFolder


def write_conversations(prepared: Path, output: Path) -> Path:
    """Write a finished prepared folder as ARRA's JSON and pictures.

    The output appears whole or not at all.

    Args:
        prepared: the finished folder.
        output: the folder to make.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: if ``prepared`` is not there or not finished.
        RequestError: if ``output`` holds something, or a key or prompt cannot be written so that
            it is read back.
    """
    folder = PreparedFolder(prepared)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(f"{output} exists already: give another folder, or delete it")
    if output.absolute().is_relative_to(prepared.absolute()):
        raise RequestError(f"{output} lies inside {prepared}: give a folder outside it")
    _check_keys(folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        _write(folder, unfinished)
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp lets nobody else in
        unfinished.replace(output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return output


def conversation(row: dict[str, Any]) -> dict[str, Any]:
    """One row of ``samples.parquet`` as an item of ARRA's JSON.

    Raises:
        RequestError: if its prompt would be read back as another one.
    """
    prompt = row["prompt"]
    if IMAGE_MARK in prompt or prompt != " ".join(prompt.split()):
        raise RequestError(
            f"the prompt of {row['key']} holds {IMAGE_MARK} or white space other than single "
            "spaces, which ARRA's format does not keep"
        )
    extra = {name: row[name] for name in EXTRA_FIELDS if row[name]}
    return {
        "conversations": [
            {"from": "human", "value": prompt},
            {"from": "gpt", "value": IMAGE_MARK},
        ],
        "image": [f"{row['key']}.png"],
        **extra,
    }


def _write(folder: PreparedFolder, output: Path) -> None:
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        for key, png in folder.iter_images():
            row = folder.row(key)
            before = ",\n"
            if row["split"] not in files:
                before = "[\n"
                path = output / f"{row['split']}.json"
                files[row["split"]] = stack.enter_context(path.open("w", encoding="utf-8"))
            item = json.dumps(conversation(row), ensure_ascii=False)
            files[row["split"]].write(before + item)
            picture = output / f"{key}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(png)
        for file in files.values():
            file.write("\n]\n")
            file.flush()
            os.fsync(file.fileno())


def _check_keys(folder: PreparedFolder) -> None:
    """Refuse keys whose picture would have to be a file and a folder at once."""
    pictures = {f"{key}.png" for key in folder.keys} | {f"{split}.json" for split in SPLITS}
    for key in folder.keys:
        above = [parent.as_posix() for parent in Path(key).parents]
        if any(name in pictures for name in above):
            raise RequestError(f"key {key} and another key would need one name in the output")


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
