"""How bright the holes are that a benchmark filled, beside the truth: whether blind repair left them as black as they came.

python recipes/hole_means.py DIR                 a folder that `inpaintkit bench run` wrote, of one suite
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from inpaintkit.evaluate.figures import figure
from inpaintkit.evaluate.report import shown
from inpaintkit.evaluate.results import Results, load
from inpaintkit.evaluate.rows import Row


@dataclass(frozen=True)
class Args:
    folder: tyro.conf.Positional[Path]


def mean(results: Results, row: Row, file: str) -> float:
    """Mean of a picture's values in a row's hole, of 255."""
    hole = results.array(f"masks/{row.mask}/{row.picture}.png")[:, :, 0] > 0
    return float(results.array(file)[hole].mean())


def main(args: Args) -> None:
    results = load(args.folder)
    print("| way | mean in the hole, of 255 | truth |\n|---|---|---|")
    for cell in results.cells:
        made = results.of(cell["label"])
        filled = figure((row.picture, mean(results, row, row.file)) for row in made)
        truth = figure((row.picture, mean(results, row, f"truth/{row.picture}.png")) for row in made)
        print(f"| {cell['label']} | {shown(filled)} | {shown(truth)} |")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
