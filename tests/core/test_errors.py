"""Exit codes are a contract."""

import pytest

from inpaintkit.core import errors


@pytest.mark.parametrize(
    ("name", "code"),
    {"InpaintError": 1, "UsageError": 2, "BadInput": 3, "OverLimit": 5, "NotWritable": 6, "Cancelled": 130, "Terminated": 143}.items(),
)
def test_each_kind_of_refusal_has_its_exit_code(name, code):
    error = getattr(errors, name)("photo.png: cause; what to do")
    assert error.exit_code == code
    assert str(error) == "photo.png: cause; what to do"
    assert isinstance(error, errors.InpaintError)


def test_no_two_kinds_share_an_exit_code():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InpaintError)]
    assert len({kind.exit_code for kind in kinds}) == len(kinds) >= 7
