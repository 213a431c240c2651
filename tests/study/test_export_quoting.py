"""Names and paths reach the program as they are, whatever bash or Hydra would make of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from study.export.hf import markdown
from study.export.script import comments, hydra, script

NASTY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
PRINT = f"{sys.executable} -S -c 'import sys; sys.stdout.buffer.write(bytes(0).join(map(str.encode, sys.argv[1:])))'"
PRINT = PRINT.replace("bytes(0)", 'b"\\0"')


@settings(max_examples=40, deadline=None)
@given(values=st.lists(NASTY, min_size=1, max_size=8), title=NASTY)
@example(
    values=["a b", "$(touch owned)", "`id`", "it's", 'say "hi"', "two\nlines", "*", "-n", "~", "!", "\\"], title="x\nid"
)
def test_every_argument_arrives_as_it_was(tmp_path_factory, values, title):
    folder = tmp_path_factory.mktemp("script")
    path = folder / "script.sh"
    path.write_text(script([title], PRINT, [(title, ["x=" + each for each in values])]), encoding="utf-8", newline="")
    done = subprocess.run(["bash", str(path)], capture_output=True, cwd=folder, check=True)
    assert done.stdout.decode().split("\0") == ["x=" + each for each in values]
    assert [each.name for each in folder.iterdir()] == ["script.sh"]


@settings(max_examples=300, deadline=None)
@given(value=NASTY.filter(lambda text: "${" not in text))
@example(value="a'b")
@example(value="back\\slash\\")
@example(value="\\'")
@example(value="1e5")
@example(value="null")
@example(value="[1,2]")
@example(value="two\nlines, $(id)")
def test_hydra_reads_text_as_it_was(value):
    override = OverridesParser.create().parse_override(hydra("data.train_files", value))
    read = override.value()
    assert str(getattr(read, "text", read)) == value
    (one,) = OverridesParser.create().parse_override(hydra("data.val_files", [value])).value()
    assert str(getattr(one, "text", one)) == value


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.integers(-(10**9), 10**9))
def test_hydra_reads_numbers_and_switches_as_they_were(value):
    read = OverridesParser.create().parse_override(hydra("a.b", value)).value()
    assert (read, type(read)) == (value, type(value))


@given(lines=st.lists(st.text(max_size=40), max_size=5))
def test_comments_stay_comments(lines):
    text = comments(lines)
    assert all(line.startswith("#") for line in text.split("\n")[:-1])
    assert yaml.safe_load(text + "key: 1\n") == {"key": 1}


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[x](http://y)", "a\nb", "`code`", "![i](u)"])
def test_nothing_in_a_model_card_is_markup(text):
    shown = markdown(text)
    assert "<" not in shown
    assert "\n" not in shown
    assert not any(shown[i] in "`[]" and shown[i - 1] != "\\" for i in range(len(shown)))
