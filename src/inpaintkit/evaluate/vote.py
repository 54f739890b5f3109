"""A page on which people vote, blind, between two fillings of the same hole, as in RePaint's user study; votes stay in the browser."""

import base64
import json
from html import escape
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.data.images import encode_png, from_array
from inpaintkit.evaluate import parts
from inpaintkit.evaluate.results import Results, load
from inpaintkit.evaluate.rows import Row
from inpaintkit.pipeline.sheets import tinted

HTML = "vote.html"


def write(folder: Path, cells: tuple[str, ...] = (), shuffle: int = 0, trials: int = 60) -> Path:
    """Write the page beside the rows; its path.

    cells: labels of those compared, every pair of them; all unless given. shuffle: seed of the order, the sides and the choice
    of at most `trials` of all pairs. Raises `BadInput` when there is nothing to compare, `UsageError` for an unknown label.
    """
    if (about := parts.about(Path(folder))) is not None:
        raise UsageError(f"{folder}: holds several suites; name one of them, such as {Path(folder) / about['parts'][0]}")
    results = load(Path(folder))
    data = questions(results, cells, shuffle, trials)
    template = (Path(__file__).parent / "vote.html").read_text(encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no text ends the script it stands in
    page = template.replace("{{title}}", escape(f"{data['suite']}: which is better?")).replace("{{data}}", text)
    write_bytes(results.folder / HTML, page.encode())
    return results.folder / HTML


def questions(results: Results, cells: tuple[str, ...], shuffle: int, trials: int) -> dict[str, Any]:
    """What the page shows: `trials` (cells and pictures by number, left and right at random), `cells` and `pictures`."""
    labels = [cell["label"] for cell in results.cells]
    for name in cells:
        if name not in labels:
            raise UsageError(f"{name}: no such way in {results.folder}; there are {', '.join(labels)}")
    chosen = [label for label in labels if not cells or label in cells]
    if len(chosen) < 2:
        raise UsageError(f"{', '.join(chosen)}: is one way, and two are compared; name another one, there are {', '.join(labels)}")
    rng = np.random.default_rng(shuffle)
    pairs = [pair for one, other in combinations(chosen, 2) for pair in _matched(results, one, other)]
    if not pairs:
        raise BadInput(f"{results.folder}: has no mask and picture that two ways filled; run more of the suite")
    pictures: dict[str, int] = {}
    uris: list[str] = []

    def number(key: str, content: bytes) -> int:
        if key not in pictures:
            pictures[key] = len(uris)
            uris.append(f"data:image/png;base64,{base64.b64encode(content).decode()}")
        return pictures[key]

    asked = []
    for i in rng.permutation(len(pairs))[:trials]:
        left, right = pairs[i] if rng.random() < 0.5 else pairs[i][::-1]
        asked.append(
            {
                "left": labels.index(left.cell), "right": labels.index(right.cell),
                "left_picture": number(left.file, (results.folder / left.file).read_bytes()),
                "right_picture": number(right.file, (results.folder / right.file).read_bytes()),
                "hole": number(f"hole {left.mask} {left.picture}", _hole(results, left)),
                "mask": left.mask, "picture": left.picture, "seed": left.seed if right.seed is None else right.seed,
            }
        )  # fmt: skip
    return {"suite": results.about["suite"]["name"], "shuffle": shuffle, "cells": labels, "pictures": uris, "trials": asked}


def _matched(results: Results, one: str, other: str) -> list[tuple[Row, Row]]:
    """The rows of two cells with the same mask and picture, each with the first seed."""
    left, right = results.firsts(one), results.firsts(other)
    return [(left[key], right[key]) for key in left if key in right]


def _hole(results: Results, row: Row) -> bytes:
    hole = results.array(f"masks/{row.mask}/{row.picture}.png")[:, :, 0] > 0
    return encode_png(tinted(from_array(results.array(f"truth/{row.picture}.png")), hole, strength=1.0))
