"""Every mistake is seen in the logits, is measured as the book says, and is shown there."""
import inspect
import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tinyscout import laws, reference
from tinyscout.config import TextConfig
from tinyscout.laws.mistakes import MISTAKES
from tinyscout.laws.universal import assert_close, compute_expected
from tinyscout.nn.weights import named_arrays

DOCS = Path(__file__).parents[2] / "docs"
if not DOCS.exists():
    pytest.skip("only in a checkout", allow_module_level=True)
sys.path.insert(0, str(DOCS))
import mistakes as script  # noqa: E402

RECORDED = json.loads(script.FILE.read_text(encoding="utf-8"))
INVISIBLE = {       # in a prompt that is shorter than a chunk, of those that the chapter on attention lists
    "attention/no-chunks", "attention/sliding-window", "attention/temperature-in-local-layers",
    "attention/no-temperature", "attention/temperature-without-one"}


@pytest.fixture(scope="module")
def setups():
    """The prompts in float32, each with its true logits: {name: (setup, Expected)}."""
    def expect(setup):
        return compute_expected(lambda w, images: script.compute_logits(setup._replace(weights=w, images=images)),
                                setup.weights, setup.images)
    return {name: (setup, expect(setup)) for name, setup in script.make_setups("float32").items()}


@pytest.fixture(scope="module")
def measured():
    return script.measure_all(MISTAKES.values())


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_the_logits_move_by_more_than_rounding(mistake, setups):
    setup, expected = setups[script.setup_name(mistake)]
    logits = script.compute_logits(mistake.plant(setup))
    if mistake.is_harmless:
        assert_close(logits, expected)
    else:
        with pytest.raises(AssertionError, match="off by"):
            assert_close(logits, expected)


def test_the_file_is_of_these_mistakes(measured):
    """A mistake that was changed, added or taken away: run python docs/mistakes.py."""
    assert list(RECORDED["mistakes"]) == list(MISTAKES)
    assert RECORDED["model"] == pytest.approx(measured["model"], rel=0.02)
    for name, row in measured["mistakes"].items():
        assert RECORDED["mistakes"][name] == pytest.approx(row, rel=0.03, abs=1e-6), name


def test_every_mistake_is_on_a_page():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
    named = set(re.findall(r'mistake\("([\w/-]+)"', pages)) - {"chapter/name"}
    assert named == set(MISTAKES)


def test_what_the_book_says_of_short_prompts():
    rows = {name: row["short prompt"] for name, row in RECORDED["mistakes"].items() if name.startswith("attention/")}
    assert {name for name, moved in rows.items() if moved == 0} == INVISIBLE
    assert 0 < rows["attention/temperature-without-floor"] < 0.1
    assert RECORDED["mistakes"]["text/chunks-on-global-layers"]["short prompt"] == 0


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_says_what_it_is_and_where(mistake):
    assert mistake.sentence.endswith(".")
    assert mistake.concerns
    if mistake.field == "ops":
        assert set(mistake.concerns) <= set(reference.__all__)
        backend = mistake.apply(reference)
        assert set(laws.replaced_names(backend)) == set(mistake.concerns)
        for name in mistake.concerns:
            assert inspect.signature(getattr(backend, name)) == inspect.signature(getattr(reference, name))
    elif mistake.field == "config":
        assert set(mistake.concerns) <= {field.name for field in fields(TextConfig)}
    elif mistake.field == "weights":
        paths = [path for path, _ in named_arrays(script.make_setups()["images"].weights)]
        assert all(any(place in path for path in paths) for place in mistake.concerns)


@pytest.mark.parametrize("mistake", [m for m in MISTAKES.values() if m.field == "ops" and len(m.concerns) == 1],
                         ids=lambda mistake: mistake.name)
def test_a_law_of_the_operation_notices(mistake):
    """The mistake in one operation breaks the law that compares it with the reference."""
    [operation] = mistake.concerns
    [case] = [case for case in laws.CASES if case.name == f"{operation}: same as reference"]
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        laws.run_law(case, mistake.apply(reference), examples=30)
