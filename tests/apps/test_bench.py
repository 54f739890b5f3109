"""`inpaintkit bench oracle` writes the table, complete or not at all."""

import numpy as np
from PIL import Image

import tiny
from inpaintkit.evaluate import bench


def test_the_command_writes_the_table(cli, tmp_path, monkeypatch):
    rows, ablation = bench.rows()[:1], bench.ablation()[:1]
    monkeypatch.setattr(bench, "rows", lambda: rows)
    monkeypatch.setattr(bench, "ablation", lambda: ablation)
    page = tmp_path / "oracle.md"
    code, out, err = cli("bench", "oracle", "-o", page)
    assert (code, out) == (0, f"{page}\n")
    text = page.read_text()
    assert text.splitlines()[0] == "# The oracle table"
    assert "| told the hole | 5 steps | 5 |" in text
    assert "| told the hole | 5 steps" in err
    assert cli("bench", "oracle", "-o", page)[0] == 6
    assert cli("bench", "orcle")[0] == 2


def test_a_suite_is_planned_run_reported_and_voted_on(cli, model, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 32, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    suite, out = tmp_path / "suite.toml", tmp_path / "out"
    suite.write_text(f"""\
name = "small"
models = ["{model}"]
fillers = ["telea"]
images = {{ source = "{tmp_path / "photos"}", size = 32 }}
masks = {{ kinds = ["box"] }}
methods = [{{ name = "plain", fields = {{ walk = {{ steps = 2 }} }} }}]
""")
    code, plan, _ = cli("bench", "run", suite, "-o", out, "--dry-run")
    assert code == 0
    assert plan.splitlines()[:2] == ["telea: 2 rows, 0 evaluations", "plain: 2 rows, 4 evaluations"]
    assert plan.splitlines()[2].startswith("4 rows to be made, 0 there; the network works for about ")
    assert not out.exists()
    code, said, err = cli("bench", "run", suite, "-o", out)
    assert (code, said) == (0, f"{out}\n")
    assert "4 of 4: plain, box, 1, 0: " in err
    assert cli("bench", "run", suite, "-o", out)[0] == 6
    assert cli("bench", "run", suite, "-o", out, "--resume")[0] == 0
    assert cli("bench", "report", out)[:2] == (0, f"{out / 'report.html'}\n{out / 'report.csv'}\n{out / 'report.md'}\n")
    assert cli("bench", "vote", out, "--cell", "telea", "--cell", "plain")[:2] == (0, f"{out / 'vote.html'}\n")


def test_parts_are_run_each_in_its_folder_and_what_is_missing_stops_nothing(cli, model, tmp_path):
    (tmp_path / "small.toml").write_text(f"""\
name = "small"
models = ["{model}", "{tmp_path / "gone" / "model"}"]
images = {{}}
masks = {{ kinds = ["box"] }}
methods = [{{ name = "plain", fields = {{ walk = {{ steps = 1 }} }} }}]
""")
    suite, out = tmp_path / "all.toml", tmp_path / "out"
    suite.write_text("""\
name = "all"
pictures.photos = { size = 32, limit = 1 }
pictures.faces = { source = "no such.tar" }
parts = [{ suite = "small.toml", pictures = ["faces", "photos"] }]
""")
    code, plan, _ = cli("bench", "run", suite, "-o", out, "--dry-run", "--set", "pictures.photos.limit=2")
    assert code == 0
    assert "== small-faces\nleft out: no such.tar: " in plan
    assert f"missing: {tmp_path / 'gone' / 'model'}: no such model" in plan
    assert "2 rows to be made" in plan
    assert not out.exists()
    code, said, err = cli("bench", "run", suite, "-o", out)
    assert code == 4
    assert said == f"{out / 'small-photos'}\n"
    assert "left out: no such.tar: " in err
    assert "small-faces was left out (no such.tar: " in err
    assert err.count(f"missing: {tmp_path / 'gone' / 'model'}: no such model") == 1
    assert sum(line.startswith("1 of 1: ") for line in err.splitlines()) == 1
    assert cli("bench", "report", out)[0] == 0
    assert cli("bench", "run", suite, "-o", out)[0] == 6
    code, _, err = cli("bench", "run", suite, "-o", out, "--resume", "--part", "small-photos")
    assert code == 4
    assert "1 ways were left out for want of a model" in err
    assert "1 of 1: " not in err
    assert cli("bench", "run", suite, "-o", out, "--part", "large")[0] == 2
    assert cli("bench", "run", tmp_path / "small.toml", "--part", "large")[0] == 2


def test_a_run_with_failures_ends_with_code_4(cli, tmp_path):
    model = tiny.folder(tmp_path / "untold", tiny.network(condition=None))
    suite = tmp_path / "suite.toml"
    suite.write_text(f"""\
name = "failing"
models = ["{model}"]
images = {{ limit = 1, size = 32 }}
masks = {{ kinds = ["box"] }}
methods = [{{ name = "plain", fields.walk.steps = 1, options.guidance = 2.0 }}]
""")
    code, _, err = cli("bench", "run", suite, "-o", tmp_path / "out")
    assert code == 4
    assert "1 of 1 rows failed, rows.jsonl says why" in err
    code, _, err = cli("bench", "report", tmp_path / "out")
    assert code == 0
    assert "is told nothing, so it cannot be guided" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_that_is_no_benchmark_is_refused(cli, tmp_path):
    code, _, err = cli("bench", "report", tmp_path)
    assert code == 3
    assert "bench run" in err
