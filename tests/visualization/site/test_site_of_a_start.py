"""A site whose pages explain a start, with a library of classes and with one of the start."""

import pytest

from crp.attribution.starts import Similarity
from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small
from tests.visualization.site.reading import said
from tests.visualization.site.small_site import OPTIONS


@pytest.mark.parametrize("own", [False, True])
def test_pages_name_the_start_and_no_class(own, tmp_path):
    model, start = small.network(), Similarity([1.0, -1.0, 2.0], "photo 3.jpg")
    library = small.mined(tmp_path, model, **({"targets": start} if own else {}))
    index = make_site(model, small.pictures(tmp_path / "in", 2), library, tmp_path / "site", target=start, **OPTIONS)
    front = said(index)
    assert "2 predictions, " not in front
    assert "Each card shows a picture, what is explained, its value and its strongest concepts." in front
    assert "+ raises what is explained, − lowers it." in front
    assert "similarity to photo 3.jpg" in front
    for word in ("predicted as", "probability", "classes"):
        assert word not in front, word
    again = make_site(model, small.pictures(tmp_path / "in", 2), library, tmp_path / "site", target=start, **OPTIONS)
    assert said(again) == front
    # a page is made anew if the start is another one of the same name
    other = Similarity([1.0, 1.0, 2.0], "photo 3.jpg")
    make_site(model, small.pictures(tmp_path / "in", 2), library, tmp_path / "site", target=other, **OPTIONS)
    assert said(index) != front
