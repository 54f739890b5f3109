"""Folders of results against truth and masks: what belongs together, what is measured, what is refused."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.evaluate import eval as evaluation
from inpaintkit.evaluate import features
from inpaintkit.evaluate.eval import distances, figures, judges, kinds, scored
from inpaintkit.evaluate.extractors import squeezenet1_0
from inpaintkit.evaluate.figures import by_area, figure
from inpaintkit.evaluate.frozen import digests, freeze
from inpaintkit.evaluate.pairs import paired


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def folders(tmp: Path, names=("a", "b", "c"), side: int = 40) -> tuple[Path, Path, Path]:
    """RESULTS, TRUTH, MASKS: the hole of picture i is i + 1 rows of 4 px, off by 10 (i + 1)."""
    for i, name in enumerate(names):
        truth = np.random.default_rng(i).integers(60, 200, (side, side, 3))
        hole = np.zeros((side, side), bool)
        hole[8 : 8 + 4 * (i + 1)] = True
        save(tmp / "truth" / f"{name}.png", truth)
        save(tmp / "masks" / f"{name}.png", hole * 255)
        save(tmp / "results" / f"{name}.png", truth + 10 * (i + 1) * hole[:, :, None])
    return tmp / "results", tmp / "truth", tmp / "masks"


def test_pictures_are_measured(tmp_path):
    scores = list(scored(paired(*folders(tmp_path)).found, judges(["psnr", "mae", "ssim", "ms_ssim"])))
    assert [score.name for score in scores] == ["a", "b", "c"]
    assert [score.area for score in scores] == pytest.approx([0.1, 0.2, 0.3])
    assert [score.values["hole"]["mae"] for score in scores] == pytest.approx([10, 20, 30], abs=1e-4)
    assert [score.values["whole"]["mae"] for score in scores] == pytest.approx([1, 4, 9], abs=1e-4)
    assert scores[0].values["hole"]["psnr"] == pytest.approx(20 * math.log10(25.5), abs=1e-4)
    assert all(score.changed == 0 and math.isnan(score.values["whole"]["ms_ssim"]) for score in scores)
    table = figures(scores)
    assert table["hole"]["mae"].mean == pytest.approx(20, abs=1e-4)
    assert math.isnan(table["hole"]["mae"].low)  # three pictures are too few for an interval
    assert table["whole"]["ms_ssim"].n == 0
    assert {name: len(part) for name, part in by_area(scores).items()} == {"0% to 10%": 1, "10% to 20%": 1, "20% to 30%": 1}


def test_known_pixels_that_changed_are_seen_at_any_depth(tmp_path):
    """A change of 1 in 16 bits is 1/257 of a change in 8."""
    results, truth, masks = folders(tmp_path, ("a",))
    pixels = np.asarray(Image.open(truth / "a.png"))[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(pixels).save(truth / "a.png")
    changed = pixels.copy()
    changed[0, 0] += 1
    Image.fromarray(changed).save(results / "a.png")
    (score,) = scored(paired(results, truth, masks).found, judges(["psnr"]))
    assert score.changed == pytest.approx(1 / 257)
    assert score.values["hole"]["psnr"] == math.inf


def test_exact_pictures_are_counted_beside_the_mean():
    found = figure(zip("abcd", [20.0, 30.0, math.inf, math.nan], strict=True))
    assert (found.mean, found.n, found.exact) == (25, 2, 1)
    assert math.isnan(figure([("a", math.nan)]).mean)


def test_masks_of_a_picture_are_no_independent_draws():
    values = np.random.default_rng(0).integers(0, 64, 12).astype(float).tolist()
    once = [(str(i), value) for i, value in enumerate(values)]
    assert figure(once * 3) == figure(once)
    assert figure([("a", 1.0), ("a", 3.0), ("b", 4.0)]).mean == 3


def test_names_belong_together(tmp_path):
    results, truth, masks = folders(tmp_path)
    (results / "a.png").rename(results / "a.filled.png")
    (masks / "b.png").rename(masks / "b_mask.png")
    np.save(masks / "c.npy", np.asarray(Image.open(masks / "c.png")) > 0)
    (masks / "c.png").unlink()
    (results / "b.json").write_text("{}")
    save(truth / "d.png", np.zeros((8, 8, 3)))
    found = paired(results, truth, masks)
    assert [(pair.name, pair.mask.name) for pair in found.found] == [("a", "a.png"), ("b", "b_mask.png"), ("c", "c.npy")]
    assert (found.unmatched, found.unused) == ([], ["d"])
    assert len(list(scored(found.found, judges(["psnr"])))) == 3
    one = paired(results, truth, masks / "a.png")
    assert {pair.mask for pair in one.found} == {masks / "a.png"}


def test_kinds_of_masks_are_sub_folders(tmp_path):
    results, truth, masks = folders(tmp_path)
    for kind in ("thin", "thick"):
        for name in ("a", "b", "c"):
            for folder in (results, masks):
                save(folder / kind / f"{name}.png", np.asarray(Image.open(folder / f"{name}.png")))
    for folder in (results, masks):
        for path in folder.glob("*.png"):
            path.unlink()
    found = paired(results, truth, masks)
    assert [(pair.kind, pair.name) for pair in found.found] == [(k, n) for k in ("thick", "thin") for n in ("a", "b", "c")]
    assert {kind: len(part) for kind, part in kinds(list(scored(found.found, judges(["psnr"])))).items()} == {"thick": 3, "thin": 3}
    assert found.unused == []
    (results / "thin" / "b.png").rename(tmp_path / "b.png")
    assert paired(results, truth, masks).unused == ["thin/b"]
    (tmp_path / "b.png").rename(results / "thin" / "b.png")
    for path in (masks / "thin").iterdir():
        path.rename(masks / path.name)
    assert paired(results, truth, masks).unmatched == ["thin/a (no mask)", "thin/b (no mask)", "thin/c (no mask)"]


def test_sub_folders_of_the_truth_are_no_kinds(tmp_path):
    found = paired(*folders(tmp_path, ("abbey/a", "zoo/a"))).found
    assert [(pair.kind, pair.name) for pair in found] == [("", "abbey/a"), ("", "zoo/a")]


def test_unmatched_files_are_listed(tmp_path):
    results, truth, masks = folders(tmp_path)
    (truth / "a.png").unlink()
    (masks / "b.png").unlink()
    assert paired(results, truth, masks).unmatched == ["a (no truth)", "b (no mask)"]
    (truth / "c.png").unlink()
    with pytest.raises(BadInput, match=r"no result has both a truth and a mask: a \(no truth\), b \(no mask\), c \(no truth\)"):
        paired(results, truth, masks)


def test_ambiguous_names_and_missing_folders_are_refused(tmp_path):
    results, truth, masks = folders(tmp_path)
    save(truth / "a.bmp", np.zeros((40, 40, 3)))
    with pytest.raises(BadInput, match=r"a.png: a.bmp has the same name but for its suffix"):
        paired(results, truth, masks)
    (truth / "a.bmp").unlink()
    save(results / "a.filled.png", np.zeros((40, 40, 3)))
    with pytest.raises(BadInput, match="is a second result for a"):
        paired(results, truth, masks)
    with pytest.raises(BadInput, match="no such folder"):
        paired(tmp_path / "none", truth, masks)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no pictures"):
        paired(tmp_path / "empty", truth, masks)


def test_wrong_sizes_and_empty_masks_are_refused(tmp_path):
    results, truth, masks = folders(tmp_path, ("a",))
    save(results / "a.png", np.zeros((40, 41, 3)))
    with pytest.raises(BadInput, match=r"results/a.png: is 41x40 and the truth .*truth/a.png is 40x40"):
        list(scored(paired(results, truth, masks).found, judges(["psnr"])))
    save(results / "a.png", np.zeros((40, 40, 3)))
    save(masks / "a.png", np.zeros((40, 40)))
    with pytest.raises(BadInput, match=r"masks/a.png: has no hole"):
        list(scored(paired(results, truth, masks).found, judges(["psnr"])))
    save(masks / "a.png", np.full((20, 20), 255))
    with pytest.raises(BadInput, match="the mask is 20x20 and the picture is 40x40"):
        list(scored(paired(results, truth, masks).found, judges(["psnr"])))


def test_unknown_metrics_missing_weights_and_fid_of_few_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--metrics lpips: no such metric; there are psnr"):
        judges(["lpips"])
    with pytest.raises(BadInput, match=r"squeezenet1_1-b8a52dc0.pth: no such file; get https://"):
        judges(["lpips_squeeze"], where=tmp_path)
    with pytest.raises(BadInput, match=r"pt_inception-2015-12-05-6726825d.pth: no such file; get https://"):
        judges(["kid"], where=tmp_path)
    few = evaluation.Judges([], inception=lambda x: x.mean((2, 3)), sets=["fid"])
    with pytest.raises(UsageError, match=r"--metrics fid: 3 pictures, .* use kid"):
        list(scored(paired(*folders(tmp_path)).found, few))


def test_masks_of_a_frozen_set_must_be_its_own(tmp_path):
    results, truth, _ = folders(tmp_path, ("a",))
    freeze(tmp_path / "set", ["thin"], (40, 40), ["a"])
    save(results / "thin" / "a.png", np.zeros((40, 40, 3)))
    (results / "a.png").unlink()
    pairs = paired(results, truth, tmp_path / "set").found
    assert [pair.kind for pair in pairs] == ["thin"]
    assert len(list(scored(pairs, judges(["psnr"]), digests=digests(tmp_path / "set")))) == 1
    save(tmp_path / "set" / "thin" / "a.png", np.full((40, 40), 255))
    one = paired(results / "thin", truth, tmp_path / "set" / "thin").found  # the folder of one kind is of the set too
    for found, folder in ((pairs, tmp_path / "set"), (one, tmp_path / "set" / "thin")):
        with pytest.raises(BadInput, match="is not the mask of the set's list"):
            list(scored(found, judges(["psnr"]), digests=digests(folder)))
    with pytest.raises(UsageError, match="fid: 1 pictures"):
        evaluation.enough(pairs, ["psnr", "fid"])


def test_metrics_on_a_file_of_features_carry_its_name(tmp_path):
    torch.manual_seed(0)
    save_file(squeezenet1_0().state_dict(), tmp_path / "mine.safetensors")
    by = judges(["psnr"], [tmp_path / "mine.safetensors"])
    scores = list(scored(paired(*folders(tmp_path)).found, by))
    found = [score.values["hole"]["perceptual[mine]"] for score in scores]
    assert 0 < found[0] < found[2]
    names = distances(scores, by)
    assert list(names) == ["frechet[mine]", "kernel[mine]"]
    real, fake = (np.stack([score.pooled["mine"][i].numpy() for score in scores]) for i in (0, 1))
    assert real.shape == (3, 512)
    assert names["frechet[mine]"][0] == pytest.approx(evaluation.sets.frechet(real, fake))
    assert not {"fid", "kid", "lpips"} & {*names, *scores[0].values["hole"]}


def test_lpips_is_measured_with_the_weights_of_a_folder(tmp_path):
    torch.manual_seed(0)
    torch.save(features.alex().state_dict(), tmp_path / features.WEIGHTS["alex"].file)
    scores = list(scored(paired(*folders(tmp_path)).found, judges(["lpips_alex"], where=tmp_path)))
    found = [score.values["whole"]["lpips_alex"] for score in scores]
    assert 0 < found[0] < found[1] < found[2]
    result, truth = (torch.from_numpy(np.asarray(Image.open(tmp_path / f / "b.png")) / 127.5 - 1).permute(2, 0, 1)[None].float() for f in
                     ("results", "truth"))  # fmt: skip
    maps = features.lpips("alex", tmp_path)(result, truth)
    assert found[1] == pytest.approx(sum(float(part.mean()) for part in maps), rel=1e-5)


def test_kid_is_that_of_inception(tmp_path):
    """The network's place is taken by channel means: what is tested is that both sides reach the distance, resized."""
    shapes = []

    def means_of(x: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return x.mean((2, 3))

    by = evaluation.Judges([], inception=means_of, sets=["kid"])
    results, truth, masks = folders(tmp_path, ("a", "b", "c", "d"))
    scores = list(scored(paired(results, truth, masks).found, by))
    assert set(shapes) == {(1, 3, 299, 299)}
    (value, low, high) = distances(scores, by)["kid"]
    means = [
        np.array([np.asarray(Image.open(folder / f"{n}.png")).mean((0, 1)) / 127.5 - 1 for n in "abcd"]) for folder in (truth, results)
    ]
    assert value == pytest.approx(evaluation.sets.kernel(*means)[0], abs=1e-4)
    assert low < value < high


@pytest.mark.skipif("INPAINTKIT_FEATURES" not in os.environ, reason="INPAINTKIT_FEATURES names no file of weights")
def test_a_file_of_trained_features_ranks_errors(tmp_path):
    by = judges([], [Path(os.environ["INPAINTKIT_FEATURES"])])
    scores = list(scored(paired(*folders(tmp_path, side=64)).found, by))
    found = [next(iter(score.values["whole"].values())) for score in scores]
    assert 0 < found[0] < found[1] < found[2]
