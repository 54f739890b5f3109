"""Anything that fills: `fill(image, hole) -> image`, on an array (H, W, 3), float32 in [0, 1], and a hole (H, W), bool.

What `image` holds inside the hole is not to be read, what the result holds outside is not used. The packages behind the
classical ones and ONNX are imported when they are first needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.extras import extra
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Hole
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options

Image = NDArray[np.float32]
Fill = Callable[[Image, Hole], Image]


@dataclass
class Sampled:
    """A diffusion model as a filler. The seed is the same at every call, so calls on one picture agree about what is to come."""

    pipe: Inpainter
    method: Method | None = None
    seed: int = 0
    options: Options | None = None
    record: dict[str, Any] = field(default_factory=dict)
    """That of the last call, with the evaluations and seconds of all of them; its windows are those of the last one."""

    def __call__(self, image: Image, hole: Hole) -> Image:
        result = self.pipe(image, hole, self.method, self.seed, options=self.options)
        so_far = {key: self.record.get(key, 0) for key in ("nfe", "nfe_backward", "seconds", "seconds_total")}
        self.record = result.record | {key: round(value + result.record[key], 4) for key, value in so_far.items()}
        return result.images[0]


def telea(image: Image, hole: Hole) -> Image:
    """Telea 2004, fast marching, as OpenCV does it: 8 bits, radius 5."""
    return _opencv(image, hole, "INPAINT_TELEA")


def ns(image: Image, hole: Hole) -> Image:
    """Bertalmio et al. 2001, Navier-Stokes, as OpenCV does it: 8 bits, radius 5."""
    return _opencv(image, hole, "INPAINT_NS")


def biharmonic(image: Image, hole: Hole) -> Image:
    """Damelin and Hoang 2018: the biharmonic equation in the hole, mirrored at the picture's edges. Raises `BadInput` for all hole.

    Equal to scikit-image's away from the edges; its own entries of the matrix there are left to chance (seen in 0.26).
    """
    if hole.all():
        raise BadInput("biharmonic: nothing is known, so nothing can be continued; leave some pixels out of the hole")
    line = [sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n), format="lil") for n in hole.shape]
    for part in line:
        part[0, 0] = part[-1, -1] = -1.0 if part.shape[0] > 1 else 0.0
    laplace = sparse.kronsum(line[1], line[0], format="csr")
    inside, known = hole.ravel(), np.where(hole[:, :, None], 0, image).reshape(hole.size, -1).astype(np.float64)
    rows = (laplace @ laplace)[inside]
    values = splu(rows[:, inside].tocsc()).solve(-(rows @ known))
    known[inside] = values.reshape(-1, known.shape[1])
    return known.reshape(image.shape).clip(0, 1).astype(np.float32)


FILLERS: dict[str, Fill] = {"telea": telea, "ns": ns, "biharmonic": biharmonic}


def onnx(path: str | Path) -> Fill:
    """A network in an ONNX file, as LaMa is commonly exported. Raises `BadInput` for another kind of file or network.

    Inputs: a picture (1, 3, H, W) in [0, 1], zero in the hole, and a mask (1, 1, H, W), 1 = hole; told apart by their
    channels, or by their order when those are not stated. H and W are padded to multiples of 8 by reflection, or to
    the size that the file states. Output: the picture, in [0, 1], or in [0, 255] when its largest value is above 2.
    """
    runtime = extra("onnxruntime", "onnx")
    if not Path(path).is_file():
        raise BadInput(f"{path}: no such file; name an .onnx file, or one of {', '.join(FILLERS)}")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4  # what it has to say becomes one line below
    try:
        session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for every way a file can be wrong
        raise BadInput(f"{path}: is not an ONNX network that can be run ({_line(error)}); get it again") from None
    inputs = session.get_inputs()
    if len(inputs) != 2 or any(len(i.shape) != 4 for i in inputs):
        given = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise BadInput(f"{path}: takes {given}; a picture (1, 3, H, W) and a mask (1, 1, H, W) are wanted")
    picture, mask = sorted(inputs, key=lambda i: i.shape[1] == 1)  # stable: in their order unless one says it has one channel

    def fill(image: Image, hole: Hole) -> Image:
        h, w = hole.shape
        height, width = (_padded(n, stated) for n, stated in zip((h, w), picture.shape[2:], strict=True))
        if height < h or width < w:
            raise BadInput(f"{path}: takes pictures of {width}x{height} only, and this is {w}x{h}; export it with free sizes")
        sides = ((0, height - h), (0, width - w))
        colors = np.pad(np.where(hole[:, :, None], 0, image).astype(np.float32), (*sides, (0, 0)), mode="symmetric")
        feed = {
            picture.name: np.ascontiguousarray(colors.transpose(2, 0, 1)[None]),
            mask.name: np.pad(hole.astype(np.float32), sides, mode="symmetric")[None, None],
        }
        try:
            out: Any = np.asarray(session.run(None, feed)[0], np.float32)
        except Exception as error:
            raise BadInput(f"{path}: failed on a picture of {w}x{h} ({_line(error)}); it is no such network as LaMa") from None
        if out.shape != (1, 3, height, width) or not np.isfinite(out).all():
            raise BadInput(f"{path}: gave {out.shape}, or values that are not finite; finite (1, 3, {height}, {width}) is wanted")
        out = out[0, :, :h, :w].transpose(1, 2, 0)
        return (out / 255 if out.max() > 2 else out).clip(0, 1)

    return fill


def named(name: str, others: Sequence[str] = ()) -> Fill:
    """A classical filler by its name, or an ONNX file by its path. Raises `UsageError` for anything else, listing `others` too."""
    if name in FILLERS:
        return FILLERS[name]
    if not name.lower().endswith(".onnx"):
        raise UsageError(f"{name}: nothing of that name fills; there are {', '.join([*others, *FILLERS])}, else name an .onnx file")
    return onnx(name)


def _opencv(image: Image, hole: Hole, flag: str) -> Image:
    if hole.all():
        raise BadInput("OpenCV: nothing is known, so nothing can be continued; leave some pixels out of the hole")
    cv2 = extra("cv2", "classic")
    eight = (image.clip(0, 1) * 255).round().astype(np.uint8)
    return cv2.inpaint(eight, hole.astype(np.uint8), 5, getattr(cv2, flag)).astype(np.float32) / 255


def _padded(length: int, stated: Any) -> int:
    return stated if isinstance(stated, int) else -(-length // 8) * 8


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
