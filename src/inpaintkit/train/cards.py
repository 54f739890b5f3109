"""Model cards: what a model was made from and how, with the figures and pictures of the day."""

import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import placeless

SHEET = "samples.png"
COLUMNS = 8


def card(trainer: Trainer, figures: Mapping[str, float], pictures: bool) -> str:
    """The README.md of a model folder: YAML front matter as model hubs read it, then text."""
    recipe = trainer.recipe
    values = placeless(recipe)
    counts = {role: sum(p.numel() for p in network.parameters()) for role, network in trainer.networks.items()}
    trained = {role: sum(p.numel() for p in parameters) for role, parameters in trainer.trained.items()}
    parts = [f"{role}: {count:,} parameters, {trained.get(role, 0):,} of them trained" for role, count in counts.items()]
    split = ", ".join(f"{trainer.source.count(name):,} {name}" for name in ("train", "validation", "test"))
    share = f"step {trainer.step:,} of {recipe.steps:,}, {trainer.items:,} items seen"
    sections = {
        "Networks": [*parts, f"The weights are moving averages (decay {recipe.ema:g})."],
        "Training": [f"Task `{recipe.task.kind}`; {share}."] + [f"{k}: {v}" for k, v in trainer.machine().items()],
        "Data": [
            *_places(values["data"]),
            f"Examples: {split}; test examples are never looked at.",
            *_begun(values),
            *trainer.source.notes(),
        ],
        "Terms": [recipe.terms or "Not stated in the recipe. The terms of the training data may bind the weights."],
        "Validation": [f"{name}: {value:.5g}" for name, value in figures.items()] or ["Nothing was held out."],
        "Notes and known failures": [recipe.notes or "None were written down."],
    }
    text = [*_front_matter(recipe.name, values), f"# {recipe.name}", ""]
    if pictures:
        text += [f"![made from held-out examples, without selection]({SHEET})", ""]
    for title, lines in sections.items():
        text += [f"## {title}", "", *(f"- {line}" for line in lines), ""]
    return "\n".join([*text, "## Recipe", "", "```json", json.dumps(values, indent=1), "```", ""])


def sheet(pictures: Tensor) -> np.ndarray:
    """`(N, C, H, W)` in [-1, 1] as one picture `(H', W', 3)` uint8, eight in a row; of other than 3 channels, the first."""
    colors = pictures if pictures.shape[1] == 3 else pictures[:, :1].expand(-1, 3, -1, -1)
    n, _, h, w = colors.shape
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    cells = torch.ones(rows * columns, 3, h, w)
    cells[:n] = colors.detach().float().cpu()
    wide = cells.reshape(rows, columns, 3, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, columns * w, 3)
    return ((wide.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of `(H, W, 3)` uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _front_matter(name: str, values: Mapping) -> list[str]:
    """Strings are written as JSON, which YAML reads, so nothing in a recipe can break out of its place."""
    tags = ["inpainting", "diffusion", values["task"]["kind"]]
    lines = ["license: other", f"license_name: {json.dumps(values['terms'][:80] or 'see-terms-below')}", "library_name: inpaintkit"]
    base = values["task"].get("start")
    return ["---", *lines, f"tags: {json.dumps(tags)}", *([f"base_model: {json.dumps(base)}"] if base else []), "---"]


def _begun(values: Mapping) -> list[str]:
    """A model to start from may have seen what is held out here."""
    start = values["task"].get("start")
    return [f"The weights of `{start}` it started from may have been trained on examples that are held out here."] if start else []


def _places(data: Mapping) -> Sequence[str]:
    """Where the data came from, as the recipe names them."""
    sources = data.get("sources") or [{"path": data.get("path", "")}]
    return [f"`{source['path']}`" + (f", at most {source['limit']:,}" if source.get("limit") else "") for source in sources]
