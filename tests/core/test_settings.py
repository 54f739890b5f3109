"""Settings at every door: unknown names, bounds, nesting, and instances that were made without a check."""

from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated

import pytest
from pydantic import Field

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings, adapter, checked, dumped


@dataclass(frozen=True)
class Inner(Settings):
    steps: Annotated[int, Field(ge=1, le=10)] = 5
    """Levels visited."""
    spacing: str = "even"


@dataclass(frozen=True)
class Outer(Settings):
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of fresh noise."""
    walk: Inner = Inner()


def refusal(values, cls=Outer):
    with pytest.raises(UsageError) as error:
        checked(cls, values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_mapping_becomes_the_settings_and_missing_fields_keep_their_defaults():
    assert checked(Outer, {"eta": 0.5, "walk": {"steps": 3}}) == Outer(0.5, Inner(3))
    assert checked(Outer, {}) == Outer()
    assert checked(Outer, Outer(0.25)) == Outer(0.25)


def test_an_unknown_option_is_refused_with_the_nearest_name():
    assert refusal({"ETA": 1}) == "Outer has no option 'ETA'; it has eta, walk"
    assert refusal({"etaa": 1}) == "Outer has no option 'etaa'; did you mean 'eta'?"


def test_an_unknown_nested_option_is_refused_with_the_nearest_name_of_its_own_level():
    assert refusal({"walk": {"stps": 3}}) == "Outer has no option 'walk.stps'; did you mean 'walk.steps'?"
    assert refusal({"walk": {"zzz": 3}}) == "Outer has no option 'walk.zzz'; it has walk.steps, walk.spacing"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"eta": 1.5}, "eta = 1.5: input should be less than or equal to 1"),
        ({"eta": -1}, "eta = -1: input should be greater than or equal to 0"),
        ({"eta": float("nan")}, "eta = nan: input should be"),
        ({"eta": "much"}, "eta = 'much': input should be a valid number"),
        ({"walk": {"steps": 0}}, "walk.steps = 0: input should be greater than or equal to 1"),
        ({"walk": {"steps": 2.5}}, "walk.steps = 2.5: input should be a valid integer"),
        ({"walk": 7}, "walk = 7: input should be"),
        (7, "Outer = 7: input should be"),
    ],
)
def test_a_value_out_of_bounds_names_the_field_what_was_given_and_what_is_allowed(values, says):
    assert refusal(values).startswith(says)


@pytest.mark.parametrize("unchecked", [Outer(eta=9.0), Outer(walk=Inner(steps=0)), {"walk": Inner(steps=0)}])
def test_instances_made_without_a_check_are_checked_again(unchecked):
    assert " = " in refusal(unchecked)


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(FrozenInstanceError):
        Outer().eta = 0.5


def test_settings_survive_a_record():
    settings = Outer(0.5, Inner(3, "trailing"))
    assert dumped(settings) == {"eta": 0.5, "walk": {"steps": 3, "spacing": "trailing"}}
    assert checked(Outer, dumped(settings)) == settings


def test_the_docstring_of_a_field_describes_it_to_forms():
    schema = adapter(Outer).json_schema()
    assert schema["properties"]["eta"]["description"] == "Share of fresh noise."
    assert schema["properties"]["eta"]["maximum"] == 1


def test_a_refusal_is_a_usage_error_of_exit_code_2():
    assert UsageError.exit_code == 2
