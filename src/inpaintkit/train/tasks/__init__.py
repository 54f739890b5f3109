"""The tasks by their recipe's `kind`. Adding one is one file and one line here."""

from inpaintkit.train.tasks.control import Control
from inpaintkit.train.tasks.damage import Damage
from inpaintkit.train.tasks.denoise import Denoise
from inpaintkit.train.tasks.gan import Gan

AnyTask = Control | Damage | Denoise | Gan
