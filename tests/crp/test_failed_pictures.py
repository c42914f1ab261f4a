"""Pictures that fail among many: named at the end, or at once if there is no hope."""

import pytest

from crp.errors import InputError, ModelError
from crp.failed_pictures import FailedPictures


def run(failed: FailedPictures, works: str) -> list[int]:
    """Work on pictures of which those marked `.` succeed; return the numbers of those that were begun."""
    begun = []
    for number, mark in enumerate(works):
        begun.append(number)
        with failed.of(f"{number}.png"):
            if mark == "x":
                raise ModelError(f"It is wrong, as '{number}.png' is." if number % 2 else "It is wrong.")
    return begun


def test_all_others_go_on():
    failed = FailedPictures(10)
    assert run(failed, ".xx..xxxx.") == [*range(10)]
    with pytest.raises(InputError) as caught:
        failed.report("were left out")
    # the path stands before reasons that do not name it; five reasons of six
    assert str(caught.value) == (
        "6 of 10 pictures were left out: It is wrong, as '1.png' is; '2.png': It is wrong; It is wrong, as '5.png' is; "
        "'6.png': It is wrong; It is wrong, as '7.png' is and 1 more."
    )


def test_nothing_is_reported_if_none_failed():
    failed = FailedPictures(2)
    run(failed, "..")
    failed.report("were left out")


@pytest.mark.parametrize(("works", "error"), [("xxx.", "It is wrong."), ("xx", "It is wrong, as '1.png' is.")])
def test_there_is_no_hope_if_the_first_three_fail_or_all(works, error):
    with pytest.raises(ModelError) as caught:
        run(FailedPictures(len(works)), works)
    assert str(caught.value) == error


def test_what_is_no_error_of_a_picture_passes():
    with pytest.raises(ZeroDivisionError), FailedPictures(2).of("a.png"):
        raise ZeroDivisionError
