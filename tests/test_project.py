"""The files around the code agree: versions are written once, guides name what exists, workflows can be read."""
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")) if (ROOT / ".ci").is_dir() else {}
YAML = sorted([*ROOT.glob(".*.yaml"), *ROOT.glob(".github/**/*.yml")])
GUIDES = ["docs/contributing.md", "docs/decisions.md", "docs/release.md", *(
    path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(".github/*.md")))]
TOP_LEVEL = "tinyscout|csrc|docs|tests|examples|[.]github|[.]ci"

pytestmark = pytest.mark.skipif(not PROJECT, reason="these tests are not in a clone of the repository")


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def pins(requirements):
    """{name: version} of the requirements that are pinned."""
    return dict(re.match(r"([\w.-]+)==([\w.]+)", r).groups() for r in requirements if isinstance(r, str) and "==" in r)


def test_the_gate_has_no_versions_of_its_own():
    """Its tools come from [dependency-groups]."""
    gate = read(".ci/run")
    assert not re.findall(r"\w(?:==|~=)\d", gate)
    assert set(re.findall(r"--group (\w+)", gate)) <= set(PROJECT["dependency-groups"])
    assert "--group dev" in gate


@pytest.mark.parametrize("tool", ["ruff", "clang-format"])
def test_pre_commit_has_the_versions_of_the_gate(tool):
    [version] = re.findall(rf"repo: \S+\b{tool}(?:-pre-commit)?\n +rev: v(\S+)", read(".pre-commit-config.yaml"))
    assert version == pins(PROJECT["dependency-groups"]["dev"])[tool]


def test_clang_format_is_the_one_that_the_style_was_written_for():
    [version] = re.findall(r"clang-format (\d+\.\d+\.\d+)", read(".clang-format"))
    assert version == pins(PROJECT["dependency-groups"]["dev"])["clang-format"]


def test_extras_agree():
    """Two extras that pin the same package pin the same version."""
    found = {(name, version) for extra in PROJECT["project"]["optional-dependencies"].values()
             for name, version in pins(extra).items()}
    assert len(dict(found)) == len(found), sorted(found)


def test_the_changelog_has_the_version():
    """The version in pyproject.toml is the last one released, or the one that Unreleased becomes."""
    changelog = read("docs/changelog.md")
    first = [re.search(line, changelog, re.MULTILINE) for line in (r"^## (\d\S*)", r"^This becomes (\d+\.\d+\.\d+)")]
    assert PROJECT["project"]["version"] in [found[1] for found in first if found]


def test_supported_versions_of_python_are_tested_and_built():
    tested = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", read(".github/workflows/gate.yml"))[1])
    built = [f"3.{minor}" for minor in re.findall(r"cp3(\d+)", " ".join(PROJECT["tool"]["cibuildwheel"]["build"]))]
    assert tested == built
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_can_be_read(path):
    """With PyYAML if it is installed, as in the gate; otherwise what most often goes wrong is looked for."""
    text = path.read_text(encoding="utf-8")
    assert "\t" not in text
    for line in text.splitlines():
        code = re.sub(r"(^|\s)#.*", "", line)
        assert not (len(line) - len(line.lstrip())) % 2, line
        assert len(line) <= 120, line
        assert not code.count('"') % 2, line
        assert all(code.count(a) == code.count(b) for a, b in ("[]", "{}", "()")), line
    try:
        import yaml
    except ImportError:
        return
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("guide", GUIDES)
def test_guides_name_files_that_exist(guide):
    """Paths from the root in backticks or in commands, and the targets of links."""
    text = read(guide)
    named = re.findall(rf"(?<![\w/.])(?:{TOP_LEVEL})/[\w./-]*[\w/]", text)
    linked = [(ROOT / guide).parent / target for target in re.findall(r"\]\(([\w./-]+\.md)", text)]
    made = {"docs/_build"}                  # by a command that stands there
    missing = [path for path in named if path not in made and not (ROOT / path).exists()]
    missing += [path.relative_to(ROOT).as_posix() for path in linked if not path.exists()]
    assert not missing, f"{guide} names {missing}"


def test_commands_in_the_guide_exist():
    from tinyscout.cli import COMMANDS
    named = set(re.findall(r"(?:^|`)tinyscout ([a-z]+)", read("docs/contributing.md"), re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_every_file_says_what_it_is(monkeypatch):
    """docs/tree.md shows it."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs/_ext"))
    from tree import walk
    entries = [entry for folder in ("tinyscout", "csrc") for entry in walk(ROOT / folder)]
    assert (ROOT / "csrc/c/kernels.h") in [path for path, _, _ in entries]
    assert not [path for path, _, says in entries if path.is_file() and not says]


def test_every_package_can_be_installed():
    """setuptools finds a folder only if it has an __init__.py."""
    package = ROOT / "tinyscout"
    folders = {folder for path in package.rglob("*.py") for folder in path.parents if folder.is_relative_to(package)}
    assert not [folder.name for folder in folders if not (folder / "__init__.py").exists()]


def test_the_workflow_runs_the_gate():
    assert re.search(r"^ +- run: \.ci/run$", read(".github/workflows/gate.yml"), re.MULTILINE)
