"""Sampling methods. A new one is one file with a frozen dataclass, and one line here: the command line, the
benchmark and the tests take it from this table."""

from collections.abc import Mapping
from typing import Any

from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import checked, dumped
from inpaintkit.core.walk import Walk
from inpaintkit.methods.copaint import CoPaint
from inpaintkit.methods.ddnm import DDNM
from inpaintkit.methods.dps import DPS
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.methods.plain import Plain
from inpaintkit.methods.repaint import RePaint

METHODS: dict[str, Method] = {
    "plain": Plain(),
    "ddpm": RePaint(walk=Walk(1000)),
    "ddim": RePaint(eta=0.0, walk=Walk(100)),
    "repaint": RePaint(),
    "ilvr": ILVR(),
    "ddnm": DDNM(),
    "dps": DPS(),
    "copaint": CoPaint(),
    "copaint-tt": CoPaint(walk=Walk(250, jump_length=10, jump_n_sample=2)),
}


def named(given: Mapping[str, Any]) -> Method:
    """The method of a `name` in the table, with the other fields given put over its own. Raises `UsageError`."""
    name = given.get("name")
    if name not in METHODS:
        raise UsageError(f"{name!r} is not known; name one of {', '.join(METHODS)}")
    base = METHODS[name]
    return checked(type(base), dumped(base) | {key: value for key, value in given.items() if key != "name"})
