"""The text that a small model learns: what is taken, what is held out, and that every machine does the same."""
import pytest

from tinyscout.data import corpus

HELD_OUT_NAMES = [46, 87]


@pytest.fixture(scope="module")
def library():
    return corpus.load_corpus()


def test_the_library_is_divided(library):
    names = [[name for name, _ in part] for part in library]
    sizes = [sum(len(text) for _, text in part) for part in library]
    assert not set(names[0]) & set(names[1])
    assert all(part == sorted(set(part)) for part in names)
    assert 0.02 < sizes[1] / sum(sizes) < 0.1
    assert sum(sizes) > 5_000_000
    assert all(text and "\r" not in text for part in library for _, text in part)
    assert not any("site-packages" in name for part in names for name in part)
    tests = sum(len(text.encode()) for part in library for name, text in part if {"test", "tests"} & {*name.split("/")})
    assert 0 < tests <= corpus.MAX_GROUP_BYTES["test"]


def test_a_name_stays_in_its_part_everywhere():
    assert [n for n in range(100) if corpus.is_held_out(f"python/{n}.py")] == HELD_OUT_NAMES


def test_a_capped_group_is_the_same_in_any_order(tmp_path, monkeypatch):
    for n in range(30):
        for folder in ("test", "pkg"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{n}.py").write_bytes(b"x = 1\r\n" * (1 + n % 3))
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(corpus.MAX_GROUP_BYTES, "test", 200)
    names = [name for part in corpus.load_corpus() for name, _ in part if name.startswith("python/")]
    assert sum(name.startswith("python/pkg/") for name in names) == 30
    sizes = [len(text) + text.count("\n") for part in corpus.load_corpus() for name, text in part if "/test/" in name]
    assert 200 - 21 < sum(sizes) <= 200
    files = [(path.relative_to(tmp_path), path) for path in tmp_path.rglob("*.py")]
    assert sorted(corpus._limit_groups(files)) == sorted(corpus._limit_groups(files[::-1]))


def test_no_library_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path / "none"))
    with pytest.raises(ValueError, match="standard library as files"):
        corpus.load_corpus()


def test_a_directory_of_ones_own(tmp_path):
    for n in range(100):
        (tmp_path / f"{n}.txt").write_text(f"Text {n}\r\nhas two lines.")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin.txt").write_bytes("süß".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    result = corpus.load_corpus(tmp_path)
    assert result == corpus.load_corpus(str(tmp_path)) == corpus.load_corpus([tmp_path])
    assert dict(result.train + result.held_out) == {f"{n}.txt": f"Text {n}\nhas two lines." for n in range(100)}
    assert 1 <= len(result.held_out) <= 15


def test_a_single_file_is_cut_at_a_line(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("".join(f"line {n}\n" for n in range(1000)))
    (_, start), (_, end) = *corpus.load_corpus(file).train, *corpus.load_corpus(file).held_out
    assert start + end == file.read_text()
    assert start.endswith("\n")
    assert 0.04 < len(end) / len(start + end) < 0.06


@pytest.mark.parametrize(("content", "error"), [(None, OSError), (b"\xff", ValueError), (b"", ValueError)])
def test_a_file_that_is_no_text_is_an_error(tmp_path, content, error):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(error):
        corpus.load_corpus(tmp_path / "file")
