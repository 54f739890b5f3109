"""Training pictures in memory: folders and WebDataset-style tars, deterministic crops."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inpaintkit.core.errors import BadInput

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures `(H, W, 3)` uint8 with their names, and how often each is drawn (weights sum to 1)."""

    images: list[np.ndarray]
    names: list[str]
    weights: np.ndarray

    def crop(self, rng: np.random.Generator, size: int, native: float = 0.5) -> np.ndarray:
        """A random square `(size, size, 3)` uint8 of a random picture, flipped half of the time.

        With probability `native` at the picture's own resolution, else from a log-uniform larger square, reduced.
        Pictures smaller than `size` are enlarged.
        """
        image = self.images[int(np.searchsorted(np.cumsum(self.weights), rng.random()).clip(0, len(self.images) - 1))]
        h, w = image.shape[:2]
        low, high = np.log(min(size, h, w)), np.log(min(h, w))
        side = min(round(float(np.exp(low if rng.random() < native else rng.uniform(low, high)))), h, w)
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        square = image[top : top + side, left : left + side]
        if side != size:
            square = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
        return square[:, ::-1] if rng.random() < 0.5 else square

    def keep(self, chosen: Sequence[int]) -> "Pictures":
        weights = self.weights[list(chosen)]
        return Pictures([self.images[i] for i in chosen], [self.names[i] for i in chosen], weights / weights.sum())

    def split(self, held_out: float) -> tuple["Pictures", "Pictures"]:
        """(training, held-out) by a hash of each picture's content, so that adding pictures moves none of the others."""
        out = [int(hashlib.blake2b(image.tobytes(), digest_size=4).hexdigest(), 16) < held_out * 2**32 for image in self.images]
        return self.keep([i for i, held in enumerate(out) if not held]), self.keep([i for i, held in enumerate(out) if held])


def load(sources: Sequence[tuple[Path, float]], prefix_weights: dict[str, float], smallest: int = 32) -> Pictures:
    """Decode every picture of the sources (folders or tars, each with a weight per picture).

    A picture whose name starts with a key of `prefix_weights` is drawn that much more or less often. Unreadable
    pictures raise `BadInput` naming the file.
    """
    images: list[np.ndarray] = []
    names: list[str] = []
    weights: list[float] = []
    for path, weight in sources:
        for name, data in _members(path):
            try:
                image = np.asarray(Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "BMP", "TIFF")).convert("RGB"))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise BadInput(f"{path}: {name}: not a readable picture ({error}); remove it") from None
            if min(image.shape[:2]) < smallest:
                continue
            images.append(image)
            names.append(name)
            weights.append(weight * next((v for k, v in prefix_weights.items() if name.startswith(k)), 1.0))
    if not sum(weights):
        raise BadInput(f"{', '.join(str(path) for path, _ in sources)}: no pictures of at least {smallest} px with a weight above 0 found")
    return Pictures(images, names, np.array(weights) / sum(weights))


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for found in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield str(found.relative_to(path)), found.read_bytes()
    elif path.is_file():
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES and (file := tar.extractfile(member)) is not None:
                        yield member.name, file.read()
        except (tarfile.TarError, EOFError) as error:
            raise BadInput(f"{path}: not a complete tar ({str(error).splitlines()[0]}); get it again") from None
    else:
        raise BadInput(f"{path}: no such folder or tar")
