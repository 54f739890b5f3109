"""Sampling methods. A new one is one file with a frozen dataclass, and one line here: the command line, the web form,
the benchmark and the tests take it from this table."""

from inpaintkit.core.sampler import Method
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
