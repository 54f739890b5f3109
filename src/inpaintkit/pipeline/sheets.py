"""Pictures about pictures: the tinted hole, the before/mask/after sheet, the denoising animation, the spread of variants."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from inpaintkit.data.images import Picture
from inpaintkit.pipeline.job import Step

TINT = (255, 0, 160)
SIDE = 512  # longest side of a panel or frame, pixels
ROW = 6  # panels in a row
LABEL = 20  # height of a panel's caption


def preview(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3): 8 bits, RGB, missing values mid-grey, what is transparent on white. For looking at only."""
    low, high = picture.span
    samples = picture.pixels
    if samples.dtype != np.uint8:
        shares = np.nan_to_num((samples.astype(np.float32) - low) / (high - low), nan=0.5)
        samples = (shares.clip(0, 1) * 255).round().astype(np.uint8)
    samples = np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples
    if picture.alpha is None:
        return samples
    cover = (picture.alpha.astype(np.float32) / high)[:, :, None]
    return (samples * cover + 255 * (1 - cover)).round().astype(np.uint8)


def tinted(picture: Picture, hole: NDArray[np.bool_], strength: float = 0.6) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the picture with its hole coloured."""
    shown = preview(picture).copy()
    shown[hole] = ((1 - strength) * shown[hole] + strength * np.array(TINT)).round()
    return shown


def spread(results: Sequence[Picture]) -> NDArray[np.float32]:
    """(H, W): standard deviation over at least two variants, root mean square over the channels; 1 = black to white.

    The estimate of a distribution (divided by n - 1), zero outside the hole.
    """
    low, high = results[0].span
    variance = np.var(np.stack([r.pixels for r in results]).astype(np.float32), axis=0, ddof=1).mean(axis=-1)
    return np.sqrt(variance) / np.float32(high - low)


def sheet(picture: Picture, hole: NDArray[np.bool_], results: Sequence[Picture], labels: Sequence[str]) -> bytes:
    """A PNG file: before, mask and every result side by side, none larger than `SIDE`; `labels` name the results."""
    captions = ["before", f"mask ({hole.mean():.1%})", *labels]
    panels = [_small(array) for array in (preview(picture), tinted(picture, hole), *map(preview, results))]
    w, h = panels[0].size
    columns = min(len(panels), ROW)
    rows = -(-len(panels) // columns)
    canvas = Image.new("RGB", (columns * (w + 8) - 8, rows * (h + LABEL + 8) - 8), "white")
    draw = ImageDraw.Draw(canvas)
    for n, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        x, y = n % columns * (w + 8), n // columns * (h + LABEL + 8)
        draw.text((x + 2, y + 2), caption, "black", ImageFont.load_default(13))
        canvas.paste(panel, (x, y + LABEL))
    out = io.BytesIO()
    rgb = picture.pixels.shape[2] == 3
    canvas.save(out, "PNG", icc_profile=picture.icc if rgb else None)
    return out.getvalue()


class Film:
    """Collects what a hole looks like while it is filled; pass it (or call it) as `on_step`.

    The noisy picture x itself is drawn, so that jumps back up in noise are seen. A trace below shows the level of every
    move made so far. Of several variants the first is shown.
    """

    def __init__(self, picture: Picture, hole: NDArray[np.bool_], variants: int = 1, frames: int = 160):
        self.variants, self.most = variants, frames
        self.base = _small(preview(picture))
        self.factor = self.base.width / picture.size[0]
        self.inside = Image.fromarray(hole.astype(np.uint8) * 255).resize(self.base.size, Image.Resampling.BOX)
        self.canvas = Image.composite(Image.new("RGB", self.base.size, TINT), self.base, self.inside)
        self.levels: list[int] = []
        self.frames = [self._framed(1, "before")]

    def __call__(self, step: Step) -> None:
        self.levels.append(step.t)
        if step.done < step.total and step.done * self.most // step.total == (step.done - 1) * self.most // step.total:
            return
        for n in range(0, len(step.boxes), self.variants):
            x0, y0, x1, y1 = (round(v * self.factor) for v in step.boxes[n])
            part = _drawn(step.x[n]).resize((max(x1 - x0, 1), max(y1 - y0, 1)), Image.Resampling.BILINEAR)
            self.canvas.paste(part, (x0, y0))
        self.canvas = Image.composite(self.canvas, self.base, self.inside)
        self.frames.append(self._framed(step.total, f"level {step.t}" + (f", 1/{step.scale} size" if step.scale > 1 else "")))

    def gif(self, result: Picture, seconds: float = 8.0) -> bytes:
        """A GIF file that plays for about `seconds` and ends with the result."""
        self.canvas = _small(preview(result))
        last = self._framed(max(len(self.levels), 1), "after")
        frames = [*self.frames, last]
        # One palette for all, so that known pixels never flicker; the rest of the sample is the tint, which is rare in frames.
        sample = Image.new("RGB", (last.width, 3 * last.height + 32), TINT)
        for k, frame in enumerate((frames[min(1, len(frames) - 1)], frames[len(frames) // 2], last)):
            sample.paste(frame, (0, k * last.height))
        palette = sample.quantize(256, Image.Quantize.MEDIANCUT)
        flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        each = int(min(max(1000 * seconds / len(flat), 40), 250))
        out = io.BytesIO()
        durations = [800, *[each] * (len(flat) - 2), 2000]
        flat[0].save(out, "GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0)
        return out.getvalue()

    def _framed(self, total: int, text: str) -> Image.Image:
        """The canvas above a strip with the trace of levels and a caption."""
        width, height = self.canvas.size
        frame = Image.new("RGB", (width, height + 44), "white")
        frame.paste(self.canvas, (0, 0))
        draw = ImageDraw.Draw(frame)
        top = max(self.levels, default=1) or 1
        points = [((i + 1) / total * (width - 1), height + 42 - 26 * t / top) for i, t in enumerate(self.levels)]
        if len(points) > 1:
            draw.line(points, (90, 90, 90), 1)
        if points:
            x, y = points[-1]
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), TINT)
        draw.text((3, height + 1), text, "black", ImageFont.load_default(12))
        return frame


def _small(array: NDArray[np.uint8]) -> Image.Image:
    """At most `SIDE` a side, never enlarged."""
    image = Image.fromarray(array)
    share = min(SIDE / max(image.size), 1.0)
    if share == 1:
        return image
    size = (max(round(image.width * share), 1), max(round(image.height * share), 1))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _drawn(x: Tensor) -> Image.Image:
    """x `(3, H, W)` in about [-1, 1] as an image, clamped."""
    return Image.fromarray(((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
