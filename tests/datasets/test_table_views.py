"""Views of tables: known names, an archive's own, and none."""

import pytest

from arra_med.errors import RequestError
from tests.datasets.film_tables import FILMS, outcomes, table


def test_an_archive_s_own_names_of_views_are_mapped(root):
    text = "file,report,view\na.png,x,P.A.  stehend\nb.png,x,Seitlich\nc.png,x,ap\n"
    names = {"p.a. Stehend": "pa", "seitlich": "lateral", "AP": "frontal"}
    found = list(table(root, text, view="view", view_names=names).items())
    assert [item.view for item in found] == ["PA", "lateral", "frontal"]
    wanted = table(root, text, view="view", view_names=names, views=("frontal",))
    assert outcomes(wanted) == ["view-not-wanted", "view-not-wanted", "c"]
    bedside = {"view_names": names | {"AP": "bedside"}, "views": ("bedside", "PA")}
    own = table(root, text, view="view", **bedside)
    assert [getattr(item, "view", None) for item in own.items()] == ["PA", None, "BEDSIDE"]
    empty = text.replace("ap\n", "\n")
    found = list(table(root, empty, view="view", view_names={"": "AP"}).items())
    assert getattr(found[-1], "view", None) == "AP"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"seitlich": "laterl"}, r"'seitlich' stands for 'laterl', which is none of PA.*'lateral'"),
        ({"seitlich": "nan"}, "stands for 'nan', which is none of"),
        ({"LL": "lateral", "LLL": "PA"}, "no cell of column 'view' says 'LLL': write it as it"),
        ({"ll": "lateral", "LL": "PA"}, "'view_names' must differ in more than capitals"),
    ],
)
def test_view_names_that_mean_nothing_are_refused(root, names, message):
    with pytest.raises(RequestError, match=message):
        table(root, FILMS, view="view", view_names=names)


def test_a_view_that_is_none_is_excluded_unless_it_is_asked_for(root):
    text = "file,report,view\na.png,x,Latreal\nb.png,x,ROOM 3\nc.png,x,PA\n"
    found = list(table(root, text, view="view").items())
    assert [getattr(i, "reason", "sample") for i in found] == [
        "unknown-view", "unknown-view", "sample",
    ]  # fmt: skip
    assert "the nearest is lateral" in found[0].detail
    assert "ROOM" not in found[1].detail  # a cell may hold anything, a name too
    found = list(table(root, text, view="view", views=("room 3", "PA")).items())
    assert [getattr(i, "view", None) for i in found] == [None, "ROOM 3", "PA"]
    others = list(table(root, text, view="view", modality="fundus").items())
    assert [i.view for i in others] == ["LATREAL", "ROOM 3", "PA"]
