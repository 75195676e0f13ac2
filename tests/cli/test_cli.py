"""The command as a user runs it: arguments and standard input in; text, an error in one line and an exit code out."""
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinyscout
from tinyscout import reference
from tinyscout.cli import COMMANDS, chat, generate, main, tokenize
from tinyscout.cli._format import format_ranges, format_si
from tinyscout.config import tiny_config
from tinyscout.inputs.tokenizer import train

ROOT = Path(__file__).parents[2]
WORDS = ["the lighthouse and the sea", "a ship, a rope, a light", "sea light, sea rope"]
GREEDY = {"max_new_tokens": 5, "temperature": 0, "stop_ids": ()}


def tiny(backend="numpy"):
    """A model of random weights whose config knows its tokenizer's special tokens."""
    tokenizer = train(WORDS, 320, progress=False)
    ids = tokenizer.special
    config = replace(tiny_config(vocab_size=tokenizer.vocab_size), patch_id=ids["<|patch|>"],
                     bos_id=ids["<|begin_of_text|>"],
                     image_start_id=ids["<|image_start|>"], image_end_id=ids["<|image_end|>"],
                     stop_ids=tuple(ids[f"<|{name}|>"] for name in ("end_of_text", "eom", "eot")))
    return tinyscout.random_model(config, backend, seed=3, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The directory of the model, with images in it."""
    directory = tmp_path_factory.mktemp("model")
    tinyscout.save(model, directory)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(directory / "noise.png")
    (directory / "broken.png").write_bytes((directory / "noise.png").read_bytes()[:300])
    return directory


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command  ->  its exit code, standard output and standard error."""
    def command(*words, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main([str(word) for word in words])
        written = capsys.readouterr()
        return SimpleNamespace(code=code, out=written.out, err=written.err)

    return command


class Failing(ModuleType):
    """The reference, until `raises` is set."""

    def __init__(self):
        super().__init__("failing")
        self.__dict__.update({name: getattr(reference, name) for name in reference.__all__}, raises=None)

    def swiglu(self, gate, up):
        if self.raises:
            raise self.raises
        return reference.swiglu(gate, up)


@pytest.fixture
def failing(monkeypatch):
    """A backend that can be made to fail; every model that the command loads computes with it."""
    ops = Failing()
    monkeypatch.delitem(ops.__dict__, "swiglu")
    loaded = tinyscout.load
    monkeypatch.setattr(tinyscout, "load", lambda path, *rest: replace(loaded(path, *rest), ops=ops))
    return ops


# generate

def test_generate_is_what_the_model_generates(run, saved, model):
    result = run("generate", "the sea", "--model", saved, "--max-tokens", 6, "--temperature", 0)
    prompt = [model.config.bos_id, *model.tokenizer.encode("the sea")]
    ids = [token for token in model.generate(prompt, max_new_tokens=6, temperature=0)
           if token not in model.config.stop_ids]
    assert (result.code, result.out) == (0, model.tokenizer.decode(ids) + "\n")
    assert result.err.startswith("tinyscout: 6 tokens, the first after")


def test_a_seed_gives_the_same_text(run, saved):
    texts = [run("generate", "-", "--model", saved, "--seed", seed, "--quiet", stdin="light").out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_may_have_images_and_be_a_message(run, saved):
    words = ["generate", "a ship", "--model", saved, "--max-tokens", 3, "--image", saved / "noise.png"]
    assert run(*words).code == 0
    assert run(*words, "--image", saved / "noise.png", "--chat").code == 0


def test_a_raw_prompt_is_taken_as_it_is(run, saved, model):
    text = "<|header_start|>sea<|header_end|>"
    result = run("generate", text, "--raw", "--model", saved, "--max-tokens", 4, "--temperature", 0, "--quiet")
    ids = model.generate(model.tokenizer.encode(text, special=True), max_new_tokens=4, temperature=0)
    assert result.out == model.tokenizer.decode([t for t in ids if t not in model.config.stop_ids]) + "\n"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_converted_on_request(run, saved, dtype):
    assert run("generate", "sea", "--model", saved, "--max-tokens", 2, "--dtype", dtype).code == 0


@pytest.mark.parametrize("backend", ["c", "cuda"])
def test_other_backends_say_the_same(run, saved, backend):
    pytest.importorskip(f"tinyscout.kernels.{backend}", reason="not built", exc_type=(ImportError, RuntimeError))
    words = ["generate", "the sea", "--model", saved, "--max-tokens", 6, "--temperature", 0, "--quiet"]
    assert run(*words, "--backend", backend).out == run(*words).out


def test_text_is_written_as_soon_as_it_is_a_character(model, monkeypatch):
    written = []
    monkeypatch.setattr(generate, "write_stdout", written.append)
    generate.stream(iter([*model.tokenizer.encode("a🦙"), model.config.stop_ids[0]]), model)
    assert [text for text in written if text] == ["a", "🦙", "\n"]


def test_an_interruption_ends_cleanly(run, saved, failing):
    failing.raises = KeyboardInterrupt()
    result = run("generate", "sea", "--model", saved)
    assert (result.code, result.err) == (130, "")


def test_control_characters_do_not_reach_a_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Screen())
    generate.write_stdout("a\x1b[2J\tb\n")
    assert sys.stdout.getvalue() == "a␛[2J\tb\n"


# chat

def talk(model, *messages):
    """A conversation of these messages, and the tokens of the last reply."""
    conversation = chat.Conversation(model, GREEDY)
    for message in messages:
        reply = list(conversation.send(message))
    return conversation, reply


def test_a_turn_goes_on_where_the_last_one_ended(model):
    conversation, reply = talk(model, "the sea", "a ship", "light")
    assert conversation.cache.length == len(conversation.history)
    assert reply == list(model.generate(conversation.history[:-len(reply) + 1], **GREEDY))
    assert model.tokenizer.decode(conversation.history).count("<|eot|>") == 5      # three messages, and two replies


def test_a_turn_that_fails_has_not_been(model):
    ops = Failing()
    del ops.__dict__["swiglu"]
    conversation = chat.Conversation(replace(model, ops=ops), GREEDY, "Be kind")
    list(conversation.send("the sea"))
    conversation.add_image(Image.new("RGB", (60, 60)))
    ops.raises = MemoryError("too much")
    with pytest.raises(MemoryError):
        list(conversation.send("lost"))
    ops.raises = None
    assert len(conversation.attachments) == 1
    reply = list(conversation.send("a ship"))
    smooth = chat.Conversation(model, GREEDY, "Be kind")
    list(smooth.send("the sea"))
    smooth.add_image(Image.new("RGB", (60, 60)))
    assert reply == list(smooth.send("a ship"))
    assert conversation.history == smooth.history
    assert len(conversation.history_images) == 1


def test_a_reply_cut_short_stays(model):
    conversation = chat.Conversation(model, GREEDY)
    reply = conversation.send("the sea")
    tokens = [next(reply), next(reply)]
    reply.close()
    assert (conversation.history[-1], conversation.last_token) == tuple(tokens)
    assert len(list(conversation.send("go on"))) == 5


def test_chat(run, saved):
    lines = ["the sea", "/system Be brief", f"/image '{saved / 'noise.png'}'", "what is it?", "", "//etc", "/reset",
             "sea"]
    result = run("chat", "--model", saved, "--max-tokens", 3, "--quiet", stdin="\n".join(lines))
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("\n")


def test_chat_survives_what_goes_wrong(run, saved):
    lines = ["/image nowhere.png", f"/image {saved / 'broken.png'}", "/dance", "/image", "the sea", "/help", "/quit",
             "never sent"]
    result = run("chat", "--model", saved, "--max-tokens", 3, stdin="\n".join(lines))
    assert result.code == 0
    trouble = result.err.splitlines()
    assert [line.split(":")[1][:12] for line in trouble[:4]] == [
        " nowhere.png", f" '{saved}"[:12], " unknown com", " unknown com"]
    assert "3 tokens" in trouble[4]
    assert len(trouble) == 5
    assert "/reset" in result.out


def test_chat_says_why_a_turn_failed(run, saved, failing):
    failing.raises = MemoryError("12 GB")
    result = run("chat", "--model", saved, stdin="the sea\nthe ship\n")
    assert (result.code, result.out, result.err) == (0, "", "tinyscout: not enough memory: 12 GB\n" * 2)


# tokenize

def test_tokenize(run, saved, model):
    text = "the sea, <|eot|> 🦙\n"
    plain = run("tokenize", text, "--model", saved).out.splitlines()
    assert [int(line.split("\t")[0]) for line in plain] == model.tokenizer.encode(text)
    ids = run("tokenize", "-", "--ids", "--special", "--model", saved / "tokenizer.json", stdin=text).out
    assert list(map(int, ids.split())) == model.tokenizer.encode(text, special=True)


def test_boxes_fit_the_screen(model):
    ids = model.tokenizer.encode("the lighthouse 🦙 and the sea\n\x1b" * 5)
    pieces = [tokenize.to_visible(piece) for piece in model.tokenizer.token_bytes(ids)]
    rows = [row.plain.split("\n") for row in tokenize.layout_boxes(ids, pieces, 40)]
    assert all(len(line) <= 40 for row in rows for line in row)
    assert " ".join(row[1] for row in rows).split() == list(map(str, ids))


# info

def test_info_of_the_named_models(run):
    scout, maverick = run("info", "scout"), run("info", "maverick")
    assert scout.code == maverick.code == 0
    for text in "108,641,793,536", "17,172,894,720", "217.3 GB", "52.75 GB", "4, 8, 12 … 48":
        assert text in scout.out
    assert "401,583,781,376" in maverick.out
    assert "\x1b" not in scout.out


def test_the_chapter_lists_all_commands_and_shows_what_they_print(run, monkeypatch):
    chapter = ROOT / "docs/command.md"
    if not chapter.exists():
        pytest.skip("no docs/ beside these tests")
    text = chapter.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(COMMANDS)
    monkeypatch.chdir(ROOT)
    for command in "info scout", 'tokenize "Roses are red" --model tinyscout/scout-mini':
        shown = text.split(f"$ tinyscout {command}\n")[1].split("```")[0]
        assert [line.rstrip() for line in run(*shlex.split(command)).out.splitlines()] == shown.splitlines()


def test_info_of_a_directory(run, saved):
    result = run("info", saved)
    assert result.code == 0
    assert "all present" in result.out
    assert "float32" in result.out


def test_info_misses_a_tensor(run, saved, tmp_path):
    from safetensors.numpy import load_file, save_file
    tensors = load_file(saved / "model.safetensors")
    tensors["stray"] = tensors.pop(next(name for name in tensors if name.endswith("norm.weight")))
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    result = run("info", tmp_path)
    assert result.code == 1
    assert "which no file holds" in result.out
    assert "stray" in result.out
    (tmp_path / "model.safetensors").unlink()
    result = run("info", tmp_path)
    assert result.code == 1
    assert "no weights" in result.out


def test_numbers_are_short():
    assert format_ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
    assert format_ranges(range(2, 20, 2)) == "2, 4, 6 … 18"
    assert [format_si(n, "B") for n in (0, 999, 1000, 51_539_607_552)] == ["0 B", "999 B", "1 kB", "51.54 GB"]


# check

@pytest.fixture
def swiglu_only(monkeypatch):
    """Leaves out what is slow here and tested elsewhere: all laws but those of one operation."""
    laws = pytest.importorskip("tinyscout.laws", reason="hypothesis is not installed")
    monkeypatch.setattr(laws, "CASES", [case for case in laws.CASES if case.name.startswith("swiglu")])


KERNEL = "from tinyscout.reference import *\ndef swiglu(gate, up):\n    return {}\n"


@pytest.mark.usefixtures("swiglu_only")
def test_check(run, tmp_path):
    module = tmp_path / "kernels.py"
    module.write_text(KERNEL.format("gate * sigmoid(gate) * up"))
    result = run("check", module, "--examples", 5)
    assert result.code == 0
    assert "0 are broken" in result.out
    module.write_text(KERNEL.format("gate * up"))
    result = run("check", module, "--examples", 5, "--only", "swiglu")
    assert result.code == 1
    assert "broken swiglu: same as reference" in result.out
    assert max(map(len, result.out.splitlines())) < 170


@pytest.mark.usefixtures("swiglu_only")
def test_check_takes_one_of_our_backends(run):
    result = run("check", "--backend", "c", "--examples", 2)
    assert (result.code, "0 are broken" in result.out) == (0, True)


@pytest.mark.usefixtures("swiglu_only")
def test_check_takes_a_kernel_that_crashes_as_broken(run, tmp_path):
    (tmp_path / "kernels.py").write_text(KERNEL.format("1 / 0"))
    result = run("check", tmp_path / "kernels.py", "--examples", 2)
    assert result.code == 1
    assert "ZeroDivisionError" in result.out


def test_without_a_model_the_small_one_speaks(run):
    result = run("generate", "def mean(values):", "--max-tokens", "5", "--temperature", "0", "--quiet")
    assert result.code == 0
    assert result.out.strip()


# an error is one line

@pytest.mark.parametrize("words", [
    "generate sea --model nowhere", "generate sea --model HERE --backend abacus",
    "generate sea --model HERE --max-tokens 0", "generate sea --model HERE --temperature -1",
    "generate sea --model HERE --top-p 2", "generate sea --model HERE --dtype int8", "generate sea --model EMPTY",
    "generate sea --model HERE --image nowhere.png", "generate sea --model HERE --image HERE/broken.png",
    "generate sea --model HERE --image HERE/config.json", "generate sea --model HERE --raw --image HERE/noise.png",
    "generate sea --model HERE --raw --chat", "generate - --model HERE", "generate \udc80 --model HERE",
    "chat --model nowhere", "chat --model HERE --system", "tokenize sea --model nowhere",
    "tokenize sea --model HERE/config.json", "info nowhere", "info EMPTY", "check nowhere.py", "check EMPTY",
    "check HERE/config.json", "check BAD.py", "check SAME.py", "check SAME.py --only dance",
    "bench --backends abacus", "bench --quick --prompt-tokens", "bench --out EMPTY/no/where.json --quick",
    "bench --prompt-tokens 9000 --compare none", "dance", ""])
def test_bad_input_is_one_line_and_code_2(run, saved, tmp_path, words):
    (tmp_path / "BAD.py").write_text("def (\n")
    (tmp_path / "SAME.py").write_text("from tinyscout.reference import *\n")
    words = [word.replace("HERE", str(saved)).replace("EMPTY", str(tmp_path)).replace("BAD.py", f"{tmp_path}/BAD.py")
             .replace("SAME.py", f"{tmp_path}/SAME.py") for word in words.split()]
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("tinyscout: ")
    assert result.err.endswith("\n")
    assert len(result.err.splitlines()) == 1


def test_a_tokenizer_is_needed(run, saved, tmp_path):
    for name in "config.json", "model.safetensors":
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    result = run("generate", "sea", "--model", tmp_path)
    assert result.code == 2
    assert "tokenizer.json" in result.err


def test_a_bug_can_be_traced(saved, monkeypatch):
    monkeypatch.setenv("TINYSCOUT_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["generate", "sea", "--model", "nowhere"])


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(run, command):
    result = run(*command, "--help")
    assert result.code == 0
    assert "example" in result.out or not command


def test_a_reader_may_leave_early():
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-m", "tinyscout", "info", "scout"], stdout=writing, stderr=subprocess.PIPE,
                          env=environment, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
