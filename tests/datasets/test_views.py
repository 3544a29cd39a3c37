import pytest

from arra_med.datasets.views import normalise_view, view_from_description, wanted_views
from arra_med.errors import RequestError


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"), ("pa ", "PA"), ("AP", "AP"), ("AP Supine", "AP"), ("LL", "lateral"),
        ("LATERAL", "lateral"), ("LEFT LATERAL", "lateral"), ("left_lateral", "lateral"),
        ("L", "lateral"), ("XTABLE LATERAL", "XTABLE LATERAL"), ("AP LLD", "AP LLD"),
        ("LAO", "LAO"), ("SWIMMERS", "SWIMMERS"), ("", None), ("nan", None), ("None", None),
        ("N/A", None), (None, None),
    ],
)  # fmt: skip
def test_normalise_view(text, view):
    assert normalise_view(text) == view


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("CHEST (PORTABLE AP)", "AP"),
        ("CHEST (PA AND LAT)", None),
        ("CHEST (SINGLE VIEW)", None),
        ("CHEST (LAT DECUB ONLY)", None),
        ("CHEST (PA ONLY)", "PA"),
        ("LATERAL CHEST", "lateral"),
        ("PARTIAL CAPSULE", None),
        ("", None),
    ],
)
def test_view_from_description(text, view):
    assert view_from_description(text) == view


def test_wanted_views_are_normalised_and_never_unknown():
    assert wanted_views(("pa", "LL", "LATERAL")) == ("PA", "lateral")
    with pytest.raises(RequestError, match="missing_view"):
        wanted_views(("PA", "nan"))
