from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from dashboards import completions
from study.results import StudyResults
from study.spec import Control
from tests.dashboards import synthetic
from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.train import train

HOSTILE = '"><script>alert(1)</script>&amp;<img src=x onerror=alert(1)>\n$x$'


class Parsed(HTMLParser):
    """The elements, their hover text, and all text of an HTML fragment."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.titles: list[str] = []
        self.shades: list[str] = []
        self.text = ""
        self.feed(fragment)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        assert set(values) <= {"title", "style"}
        if tag == "span":
            self.titles.append(values["title"] or "")
            self.shades.append(values["style"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def drawn(text: str, weights: list[float], *, scale: tuple[float, float] = (0.8, 1.2)) -> Parsed:
    frame = pl.DataFrame({"token": list(text), "influence_weight": weights, "log_ratio": [0.0] * len(weights)})
    return Parsed(completions.coloured(frame, advantage=0.5, scale=scale))


def test_the_models_markup_stays_text() -> None:
    frame = synthetic.completions(5, text=HOSTILE)
    parsed = Parsed(completions.coloured(completions.tokens(frame.row(0, named=True)), advantage=1.0, scale=(0.9, 1.1)))
    assert set(parsed.tags) == {"div", "span"}
    assert parsed.text == HOSTILE.replace("\n", "⏎\n")


def test_one_token_with_markup_stays_text() -> None:
    frame = pl.DataFrame({"token": [HOSTILE], "influence_weight": [1.0], "log_ratio": [0.0]})
    parsed = Parsed(completions.coloured(frame, advantage=1.0, scale=(0.9, 1.1)))
    assert parsed.tags == ["div", "span"]


def opacities(parsed: Parsed) -> list[float]:
    return [float(re.search(r",([\d.]+)\)$", shade).group(1)) for shade in parsed.shades]  # type: ignore[union-attr]


def test_weights_above_one_are_orange_below_blue_and_those_at_a_bound_are_strongest() -> None:
    parsed = drawn("abcd", [1.2, 0.8, 1.0, 1.1])
    assert [completions.ABOVE in shade for shade in parsed.shades] == [True, False, False, True]
    assert opacities(parsed) == pytest.approx(
        [completions.STRONGEST, completions.STRONGEST, 0, completions.STRONGEST / 2]
    )


def test_a_small_weight_is_faint_and_equal_distances_from_one_are_equally_strong() -> None:
    assert max(opacities(drawn("ab", [1.004, 0.996], scale=(0.5, 1.5)))) <= 0.01
    above, below = opacities(drawn("ab", [1.1, 0.9], scale=(0.9, 1.4)))
    assert above == below == pytest.approx(completions.STRONGEST / 4)


def test_hovering_says_weight_advantage_and_log_ratio() -> None:
    assert drawn("a", [1.2]).titles == ["f = 1.2000\nadvantage +0.500, × f +0.600\nlog-ratio +0.00000"]


def test_without_any_influence_nothing_is_coloured() -> None:
    assert opacities(drawn("ab", [1.0, 1.0], scale=(1.0, 1.0))) == [0, 0]


def test_the_scale_is_the_widest_clip_range_of_the_study_and_the_legend_says_its_ends(finished: StudyResults) -> None:
    spec = finished.spec
    assert completions.clip_range(spec) == pytest.approx((0.6, 1.4))
    fixed = {key: space for key, space in spec.space.items() if "epsilon" not in key}
    control = Control(label="wide", values={"fipo.epsilon_f_high": 0.9})
    changed = {"space": fixed, "enqueue": (control,), "trainer": {"fipo": {"epsilon_f_low": 0.0}}}
    assert completions.clip_range(spec.model_copy(update=changed)) == pytest.approx((1.0, 1.9))
    defaults = spec.model_copy(update={"space": fixed, "enqueue": (), "trainer": {}})
    assert completions.clip_range(defaults) == pytest.approx((0.8, 1.2))
    legend = completions.legend((0.6, 1.4))
    assert "0.6 <span" in legend and "</span> 1.4 (the range" in legend


def test_the_steps_are_those_of_the_files(finished: StudyResults) -> None:
    assert completions.steps(finished.trials[0].directory) == list(range(5, 41, 5))
    assert completions.steps(finished.directory) == []


def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "completions").mkdir()
    (tmp_path / "completions" / "step-000005.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match=r"step-000005\.parquet") as error:
        completions.read(tmp_path, 5)
    assert "\n" not in str(error.value)


def test_what_the_trainer_writes_is_read(small_config: TrainerConfig, tmp_path: Path) -> None:
    # Large groups of short responses, so that a random policy is right in some.
    rollout = small_config.rollout.model_copy(update={"group_size": 32, "max_response_length": 6})
    for _ in train(small_config.model_copy(update={"rollout": rollout}), tmp_path):
        pass
    steps = completions.steps(tmp_path)
    assert steps
    frame = completions.read(tmp_path, steps[-1])
    assert frame.schema == synthetic.completions(2, text="2+4=6").schema
    row = frame.row(0, named=True)
    tokens = completions.tokens(row)
    assert tokens.height == row["length"]
    assert set(Parsed(completions.coloured(tokens, advantage=row["advantage"], scale=(0.8, 1.2))).tags) == {
        "div",
        "span",
    }
