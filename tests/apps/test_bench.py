"""`inpaintkit bench oracle` writes the table, complete or not at all."""

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
