"""The oracle table: every method is in it, its costs are those of the walks, and the command writes it."""

from statistics import mean

import pytest

from inpaintkit.core.walk import moves_down
from inpaintkit.evaluate import bench
from inpaintkit.evaluate.bench import Projected, Row, ablation, lines, measured, nearest, report, rows, settings, steps
from inpaintkit.evaluate.oracle import HOLES
from inpaintkit.methods import DDNM, DPS, METHODS, CoPaint, Plain, RePaint

FEW = 100


def test_every_method_is_in_the_table():
    assert {type(method) for method in METHODS.values()} == {type(row.method) for row in rows()}


def test_the_table_has_every_combination_of_eps_and_noise():
    forms = {(row.method.eps, row.method.eta, row.method.renoise, row.method.walk.steps) for row in ablation()}
    assert len(forms) == 2 * 4 * 3 == len(ablation())


@pytest.mark.parametrize(
    ("method", "backward"),
    [(RePaint(walk=steps(10, jump_length=2, jump_n_sample=3)), 0), (DDNM(walk=steps(10)), 0), (DPS(walk=steps(10)), 10)],
)
def test_costs_are_counted_per_sample(method, backward):
    cell = measured(Row("", method), "box", 1, 20)
    assert cell.forward == moves_down(method.walk.times(bench.SCHEDULE))
    assert cell.backward == backward


def test_copaint_costs_at_least_one_evaluation_more_than_its_steps():
    cell = measured(Row("", CoPaint(inner=2, lr=1e-4, walk=steps(5))), "box", 1, 20)
    assert (cell.forward, cell.backward) == (15, 10)


def test_the_taken_apart_form_is_ddnm_where_they_meet():
    apart, whole = (measured(Row("", m), "half", 1, FEW) for m in (Projected(renoise=0.85, walk=steps(10)), DDNM(walk=steps(10))))
    assert apart == whole


def test_a_line_shows_settings_cost_distances_and_the_published_figure():
    table = [Row("told", Plain(walk=steps(5)), 0.104, told=True), Row("dps", DPS(zeta=1.0, renoise=0.85, walk=steps(3)))]
    head, rule, told, dps = lines(table, (1,), FEW)
    assert head.count("|") == rule.count("|") == told.count("|") == dps.count("|")
    cells = [cell.strip() for cell in told.split("|")[1:-1]]
    assert cells[:3] == ["told", "5 steps", "5"]
    assert cells[-1] == "0.104"
    assert float(cells[-2]) == pytest.approx(mean(map(float, cells[3:7])), abs=0.001)
    assert "| 3 steps, zeta 1.0, renoise 0.85 | 3 + 3 |" in dps
    assert settings(RePaint(walk=steps(9, jump_length=2, jump_n_sample=3))) == "9 steps, jumps of 2, 3 times"


def test_two_exact_sets_are_nearer_than_any_method_comes():
    far = nearest((1,), 1000)
    assert set(far) == set(HOLES)
    assert mean(far.values()) < 0.05  # the survey: 0.030, in other cells


def test_the_page_says_how_it_was_made():
    text = "\n".join(line for line, _ in zip(report("the command", (1,), 10), range(20), strict=False))
    assert "Made by `the command`" in text
    assert "10 samples" in text
    assert "problem seeds 1." in text
