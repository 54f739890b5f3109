"""All randomness of sampling: one generator per picture and named stream, drawn on the CPU."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Unit Gaussian noise for a batch of pictures, each with its own seed.

    A picture's numbers depend on its seed, the stream's name ("init", "move", "known", "jump", "z") and how often that
    stream was drawn before, never on its batch mates: picture 3 of a batch can be made alone.
    """

    def __init__(self, seeds: Sequence[int], dtype: torch.dtype = torch.float32):
        self.seeds, self.dtype = tuple(int(s) for s in seeds), dtype
        self._generators: dict[tuple[int, str], torch.Generator] = {}

    def draw(self, stream: str, shape: Sequence[int]) -> Tensor:
        """`(B, *shape)` for the B pictures of the batch."""
        generators = (self._generator(i, stream) for i in range(len(self.seeds)))
        return torch.stack([torch.randn(tuple(shape), generator=g, dtype=self.dtype) for g in generators])

    def _generator(self, index: int, stream: str) -> torch.Generator:
        if (index, stream) not in self._generators:
            self._generators[index, stream] = torch.Generator().manual_seed(derived(self.seeds[index], stream))
        return self._generators[index, stream]


def derived(seed: int, *key: object) -> int:
    """A seed for a part of a picture (a stream, a level, a window), the same on every machine."""
    digest = hashlib.blake2b(repr((int(seed), *key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # torch wants a signed 64-bit number
