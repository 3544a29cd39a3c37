"""What the image tokenizer makes of the test pictures: the best that any of its models can draw.

    python scripts/study/reconstruct.py --prepared DIR --tokenizer DIR --output DIR

Writes a folder of PNG files with a table, which ``arra-med evaluate`` takes as pictures.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

import torch
from command import exit_status

from arra_med.eval.plain_folder import TABLE
from arra_med.images import encode_png
from arra_med.store import PreparedFolder, write_atomic
from arra_med.tokenizers.base import load_tokenizer
from arra_med.tokenizers.cache import open_tokens

_BATCH = 200


@torch.no_grad()
def main() -> None:
    """Decode the codes of the split ``test``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("prepared", "tokenizer", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    prepared = PreparedFolder(options.prepared)
    codes = open_tokens(prepared, options.tokenizer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(options.tokenizer).to(device)
    rows = prepared.rows("test")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["key", "file"])
    for start in range(0, len(rows), _BATCH):
        keys = [row["key"] for row in rows[start : start + _BATCH]]
        grid = torch.stack([torch.from_numpy(codes[key].astype("int64")) for key in keys])
        pictures = tokenizer.decode(grid.view(-1, *tokenizer.grid).to(device)).cpu().numpy()
        for number, (key, picture) in enumerate(zip(keys, pictures, strict=True), start):
            name = f"{number:05d}.png"
            write_atomic(options.output / name, encode_png(picture.transpose(1, 2, 0)))
            writer.writerow([key, name])
    write_atomic(options.output / TABLE, table.getvalue().encode())
    sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    sys.exit(exit_status(main))
