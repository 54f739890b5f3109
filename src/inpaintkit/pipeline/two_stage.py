"""Denoise first, then let a generator go over it: the order of the DDGAN post (DiffGANPaint), on a working footing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from inpaintkit.core.errors import UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Hole, Picture
from inpaintkit.methods.plain import Plain
from inpaintkit.pipeline.fill import Inpainter, changed_outside, grown
from inpaintkit.pipeline.job import Options, Step
from inpaintkit.pipeline.measured import reference


def two_stage(
    pipe: Inpainter,
    generator: Inpainter,
    picture: Picture,
    hole: Hole,
    method: Method | None = None,
    seed: int = 0,
    variants: int = 1,
    options: Options | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[list[Picture], dict[str, Any]]:
    """(filled pictures, record). `pipe` fills the hole by `method` (a few steps will do); the filled picture is noised to the
    lowest level of the generator's walk, the generator, told what is known, makes its clean picture of that with the latent of
    the variant's seed, and only the hole is taken from it.

    Structure thus comes from the denoiser, texture from the generator. Raises `UsageError` as `check`, and as `Inpainter.fill`.
    """
    once = check(generator)
    denoised, first = pipe.fill(picture, hole, method, seed, variants, options, on_step)
    results, records = [], []
    for k, each in enumerate(denoised):
        (made,), after = generator.fill(each, hole, once, seed + k, 1, options, on_step, reference(each))
        results.append(made)
        records.append(after)
    region = grown(hole, options.grow) if options is not None and options.grow else hole
    then = {key: records[0][key] for key in ("model", "model_sha256", "method", "told", "nfe", "walk", "windows", "dtype")}
    sums = {key: round(first[key] + sum(r[key] for r in records), 4) for key in ("seconds", "seconds_total")}
    return results, {
        **first,
        **sums,
        "nfe": first["nfe"] + records[0]["nfe"],
        "then": then,
        "changed_outside": max(changed_outside(picture, result, region) for result in results),
        "notes": list(dict.fromkeys([*first["notes"], *(note for record in records for note in record["notes"])])),
    }


def check(generator: Inpainter) -> Plain:
    """The generator's last step alone, from a picture noised to its lowest level. Raises `UsageError` for a model that is no
    generator, or one that has a single step: at its level nothing of the picture would be left."""
    name, method = generator.model.name, generator.method()
    if not generator.model.unet.config.latent or not isinstance(method, Plain):
        raise UsageError(f"{name}: is not a generator; name a model trained as a GAN (train, task kind gan)")
    lowest, T = method.walk.levels(generator.model.schedule)[1], generator.model.schedule.T
    if lowest == T:
        raise UsageError(f"{name}: goes from pure noise in one step, so nothing of the denoised picture would be left; use one of 2 to 8")
    return replace(method, walk=replace(method.walk, steps=1, start=lowest / T))
