import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.datasets.views import (
    VIEWS,
    is_known,
    normalise_view,
    repair_view,
    view_from_description,
    wanted_views,
)
from arra_med.errors import RequestError

# every value of MIMIC-CXR 2.0.0's ViewPosition, with the number of pictures that have it
MIMIC = {
    "AP": 147_173, "PA": 96_161, "LATERAL": 82_853, "LL": 35_133, "": 15_769, "PA LLD": 4,
    "LAO": 3, "RAO": 3, "AP AXIAL": 2, "AP LLD": 2, "XTABLE LATERAL": 2, "AP RLD": 2,
    "SWIMMERS": 1, "PA RLD": 1, "LPO": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"), ("pa ", "PA"), ("AP", "AP"), ("AP Supine", "AP"), ("LL", "lateral"),
        ("LATERAL", "lateral"), ("LEFT LATERAL", "lateral"), ("left_lateral", "lateral"),
        ("L", "lateral"), ("XTABLE LATERAL", "XTABLE LATERAL"), ("AP LLD", "AP LLD"),
        ("LAO", "LAO"), ("SWIMMERS", "SWIMMERS"), ("", None), ("nan", None), ("None", None),
        ("N/A", None), ("n.a.", None), ("--", None), (None, None), ("antero-posterior", "AP"),
        ("postero-anterior", "PA"), ("left lateral", "lateral"), ("Frontal", "frontal"),
        ("AP semi-erect", "AP"), ("AP_horizontal", "AP"), ("Cross-table lateral",
        "XTABLE LATERAL"), ("left anterior oblique", "LAO"), ("Lat.", "lateral"),
    ],
)  # fmt: skip
def test_normalise_view(text, view):
    assert normalise_view(text) == view
    assert view is None or is_known(view)


def test_the_table_knows_mimic_s_and_dicom_s_views():
    assert sum(MIMIC.values()) == 377_110
    for name in MIMIC:
        view = normalise_view(name)
        assert is_known(view) if name else view is None
    for name in ("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO"):  # defined terms of CR, DX
        assert is_known(normalise_view(name))
    for name in ("RPO", "L5 S1", "lateral", "axial", "tangential", "oblique"):
        assert is_known(normalise_view(name))
    for view in VIEWS:
        assert normalise_view(view) == view


def test_a_view_nobody_knows_is_told_apart():
    assert normalise_view("mobile bed ") == "MOBILE BED"
    assert not is_known("MOBILE BED")


@given(st.text() | st.from_regex(r"\s*(nan|none|null|n/a|<na>|-+|\?)\s*", fullmatch=True))
def test_no_text_becomes_a_view_called_nan(text):
    view = normalise_view(text)
    if view is not None:
        assert view.strip().upper() not in {"", "NAN", "NONE", "NULL", "N/A", "NA", "<NA>"}
        assert normalise_view(view) == view
        if is_known(view):
            assert view in VIEWS
    repaired = repair_view(text, text)
    assert repaired in {None, "PA", "AP", "lateral"}


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("CHEST (PORTABLE AP)", "AP"),
        ("CHEST (PA AND LAT)", None),
        ("CHEST (SINGLE VIEW)", None),
        ("CHEST (LAT DECUB ONLY)", None),
        ("CHEST (PA ONLY)", "PA"),
        ("CHEST, AP NON-GRID", "AP"),
        ("CHEST, PA X-WISE", "PA"),
        ("LATERAL CHEST", "lateral"),
        ("RIB UNILAT, W/ AP CHEST LEFT", None),
        ("TRAUMA #3 (PORT CHEST ONLY)", None),
        ("PARTIAL CAPSULE", None),
        ("BILATERAL", None),
        ("", None),
        (None, None),
    ],
)
def test_view_from_description(text, view):
    assert view_from_description(text) == view


@pytest.mark.parametrize(
    ("code", "procedures", "view"),
    [
        ("", ("CHEST (PORTABLE AP)", "CHEST (PORTABLE AP)"), "AP"),
        ("", ("CHEST (SINGLE VIEW)", "CHEST (PORTABLE AP)"), "AP"),
        ("", ("CHEST (PORTABLE AP)", "CHEST (PA AND LAT)"), None),  # they contradict each other
        ("postero-anterior", ("CHEST (PA AND LAT)", ""), "PA"),  # the picture's own code decides
        ("left lateral", ("CHEST (PA AND LAT)", ""), "lateral"),
        ("left anterior oblique", ("CHEST (PA)", ""), None),
        ("nan", ("CHEST (PA)",), "PA"),
        ("", (), None),
    ],
)
def test_a_missing_view_is_repaired_only_when_one_is_named(code, procedures, view):
    assert repair_view(code, *procedures) == view


def test_wanted_views_are_normalised_known_and_never_unknown():
    assert wanted_views(("pa", "LL", "LATERAL", "swimmers")) == ("PA", "lateral", "SWIMMERS")
    with pytest.raises(RequestError, match="missing_view"):
        wanted_views(("PA", "nan"))
    with pytest.raises(RequestError, match=r"'FRONTAL2' unknown; did you mean frontal\?"):
        wanted_views(("PA", "frontal2"))
    with pytest.raises(RequestError, match="Known: PA, AP, lateral"):
        wanted_views(("qqq",))
