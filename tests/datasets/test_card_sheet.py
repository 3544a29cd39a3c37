import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from arra_med.datasets import card
from arra_med.images import encode_png
from arra_med.schema import images_schema


def table(rows):
    keys, views = zip(*rows, strict=True)
    return pa.table({"key": keys, "view": views, "modality": ["cxr"] * len(rows)})


def test_keys_are_chosen_by_hash():
    rows = [(f"k{i}", ("PA", "PA", None)[i % 3]) for i in range(60)]
    chosen = card.contact_sheet_keys([table(rows)], per_view=3)
    assert list(chosen) == ["cxr, PA", "cxr, no view"]
    assert [len(keys) for keys in chosen.values()] == [3, 3]
    pieces = table(rows[::-1]).to_batches(max_chunksize=7)
    assert chosen == card.contact_sheet_keys(pieces, per_view=3)
    alone = [row for row in rows if row[1] is None]  # other views change nothing
    assert card.contact_sheet_keys([table(alone)], per_view=3) == {
        "cxr, no view": chosen["cxr, no view"]
    }
    fewer = card.contact_sheet_keys([table(rows)], per_view=2)
    assert fewer["cxr, PA"] == chosen["cxr, PA"][:2]


def test_only_the_most_frequent_views_get_a_row():
    rows = [(f"k{view}-{i}", f"view {view:02d}") for view in range(30) for i in range(view + 1)]
    chosen = card.contact_sheet_keys([table(rows)])
    assert list(chosen) == [f"cxr, view {view:02d}" for view in range(29, 5, -1)]
    assert max(map(len, chosen.values())) == 8


def grey(value, size=(256, 256)):
    return encode_png(np.full(size, value, np.uint8))


def test_contact_sheet_layout():
    sheet = Image.open(
        io.BytesIO(card.contact_sheet({"cxr, PA": [grey(10)] * 9, "cxr, AP": [grey(200)]}))
    )
    pixels = np.asarray(sheet)
    assert sheet.mode == "L"
    # Eight columns of 192 and gaps of 2; nine pictures need a second row.
    assert sheet.size == (8 * 194 - 2, 22 + 2 * 194 - 2 + 22 + 192)
    assert pixels[22:214, :192].max() == 10
    assert pixels[22:214, 192:194].min() == 255
    assert pixels[-1, 0] == 200
    assert pixels[-1, 200:].min() == 255
    assert pixels[:22].min() < 100 < pixels[:22].mean()  # the caption


def test_contact_sheet_of_colour_and_odd_pictures():
    red = encode_png(np.full((40, 20, 3), (200, 0, 0), np.uint8))
    sheet = Image.open(
        io.BytesIO(card.contact_sheet({"fundus, no view": [red, grey(9, (40, 40))]}))
    )
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * 40 + 2, 22 + 40)  # small pictures are not enlarged
    assert sheet.getpixel((20, 40)) == (200, 0, 0)
    assert sheet.getpixel((2, 40)) == (255, 255, 255)
    assert sheet.getpixel((60, 40)) == (9, 9, 9)


def test_pictures_are_found_without_reading_all(tmp_path):
    for part in range(3):
        lines = [
            {"key": f"k{part}-{i}", "image": {"bytes": grey(i, (2, 2)), "path": None}}
            for i in range(130)
        ]
        pictures = pa.Table.from_pylist(lines, images_schema())
        pq.write_table(pictures, tmp_path / f"part-{part}.parquet")
    (tmp_path / "part-3.parquet").write_bytes(b"is not opened once all are found")
    found = card.find_pictures(sorted(tmp_path.iterdir()), ["k0-129", "k2-3"])
    assert found == {"k0-129": grey(129, (2, 2)), "k2-3": grey(3, (2, 2))}
