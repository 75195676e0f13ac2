"""Each example runs by itself, shows something, and is short enough to read in one go."""
import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
LONG = {"10_lessons", "11_long_context"}        # these train a model
RUNS = [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in EXAMPLES]

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="no examples/ beside these tests")


@pytest.fixture
def plt(monkeypatch):
    """pyplot without a window.  Settings that an example changes are put back, and its figures are closed."""
    matplotlib = pytest.importorskip("matplotlib")
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot
    monkeypatch.setattr(pyplot, "show", lambda *args, **kwargs: None)     # Agg warns that it cannot
    with matplotlib.rc_context():
        yield pyplot
    pyplot.close("all")
    matplotlib.use(backend)


@pytest.fixture
def little_memory(monkeypatch):
    """A machine of 2 GB, on which an example with a large model chooses a smaller one."""
    plain, pages = os.sysconf, 2 ** 31 // os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(os, "sysconf", lambda name: pages if name == "SC_PHYS_PAGES" else plain(name))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_something(path, plt, little_memory, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    drawn = [axes for number in plt.get_fignums() for axes in plt.figure(number).axes if axes.has_data()]
    assert drawn or capsys.readouterr().out.strip(), f"{path.name} draws nothing and prints nothing"
    assert not list(tmp_path.iterdir()), f"{path.name} leaves files behind"
    unnamed = [number for number in plt.get_fignums() if not plt.figure(number).get_label()]
    assert not unnamed, f"{path.name}: the book takes a figure's caption from its name: plt.subplots(num=...)"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert 30 <= lines <= 70, f"{path.name} has {lines} lines; an example has 30 to 70"
