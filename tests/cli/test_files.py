"""The output: written whole or not at all, never over an existing file, and through the standard streams."""

import errno
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import anyops

BEST = '{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.75}'
WORSE = '{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}'
JSON_IN, JSON_OUT = f"[{WORSE}, {BEST}]\n".encode(), f"[{BEST}]\n".encode()
CSV_IN = b"image_id,category_id,x,y,w,h,score\n1,1,0,0,9,9,0.5\n1,1,0,0,9,9,0.75\n"
CSV_OUT = b"image_id,category_id,x,y,w,h,score\n1,1,0,0,9,9,0.75\n"
FORMATS = {"json": (JSON_IN, JSON_OUT), "csv": (CSV_IN, CSV_OUT)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.json").write_bytes(JSON_IN)
    return tmp_path


def refused(result, *words):
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []
    return True


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("source", ["in.{}", "in.{}.gz", "IN.{}.GZ"])
@pytest.mark.parametrize("target", ["out.{}", "out.{}.gz"])
def test_compression_may_change_on_the_way(run, tmp_path, form, source, target):
    data, expected = FORMATS[form]
    source, target = source.format(form), target.format(form)
    (tmp_path / source).write_bytes(gzip.compress(data) if source.lower().endswith("gz") else data)
    assert run("nms", source, "-o", target).exit_code == 0
    written = (tmp_path / target).read_bytes()
    assert (gzip.decompress(written) if target.endswith("gz") else written) == expected
    assert names(tmp_path) == sorted([source, target])


def test_a_compressed_output_does_not_tell_the_time(run, folder):
    run("nms", "in.json", "-o", "out.json.gz")
    assert (folder / "out.json.gz").read_bytes()[4:8] == bytes(4)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("compressed", [False, True])
def test_standard_streams(run, tmp_path, form, compressed):
    data, expected = FORMATS[form]
    result = run("nms", "-", "-o", "-", stdin=gzip.compress(data) if compressed else data)
    assert result.exit_code == 0
    assert result.stdout_bytes == expected
    assert result.stderr.startswith("2 boxes in, 1 boxes out, ")
    assert names(tmp_path) == []


def test_standard_input_to_a_file_and_a_file_to_standard_output(run, folder):
    assert run("nms", "-", "-o", "out.json", stdin=JSON_IN).exit_code == 0
    assert (folder / "out.json").read_bytes() == JSON_OUT
    assert run("nms", "in.json", "-o", "-").stdout_bytes == JSON_OUT


def test_standard_input_of_another_format_than_the_output(run, tmp_path):
    assert refused(run("nms", "-", "-o", "out.csv", stdin=JSON_IN), "out.csv", "input is JSON", ".json or .json.gz")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("in.json", "out.csv", ["out.csv", "input is JSON", ".json or .json.gz"]),
        ("in.json", "out.txt", ["out.txt", ".json, .json.gz, .csv or .csv.gz"]),
        ("in.json", "out", ["out", ".json, .json.gz, .csv or .csv.gz"]),
        ("in.txt", "out.json", ["in.txt", ".json, .json.gz, .csv or .csv.gz"]),
        ("absent.json", "out.json", ["absent.json", "cannot be read", "No such file"]),
        ("folder.json", "out.json", ["folder.json", "cannot be read"]),
        ("in.json", "folder.json", ["folder.json", "not a regular file"]),
        ("in.json", "absent/out.json", ["absent/out.json", "folder does not exist"]),
        ("in.json", "in.json/out.json", ["in.json/out.json", "folder does not exist"]),
        ("in.json", f"{'n' * 300}.json", [".json: cannot be written: "]),
        (f"{'n' * 300}.json", "out.json", [".json: cannot be read: "]),
        ("in.json", f"{'n' * 300}/out.json", ["/out.json: ", "cannot be written"]),
        ("in.json", "loop.json", ["loop.json"]),
    ],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_names_that_cannot_be(run, folder, *, source, target, words, force):
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to("loop.json")
    assert refused(run("nms", source, "-o", target, *force), *words)
    assert names(folder) == ["folder.json", "in.json", "loop.json"]
    assert names(folder / "folder.json") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_force_does_not_replace_what_is_no_file(run, folder):
    os.mkfifo(folder / "out.json")
    assert refused(run("nms", "in.json", "-o", "out.json", "--force"), "out.json", "not a regular file", "- writes to")
    assert (folder / "out.json").is_fifo()


def test_an_existing_output_is_refused_before_any_work(run, folder, monkeypatch):
    (folder / "out.json").write_text("mine")
    monkeypatch.setattr(anyops, "nms", lambda *_, **__: pytest.fail("it computed"))
    assert refused(run("nms", "in.json", "-o", "out.json"), "out.json", "exists already", "--force")
    assert (folder / "out.json").read_text() == "mine"


def test_force_replaces_an_existing_output_and_keeps_its_permissions(run, folder):
    (folder / "out.json").write_text("mine")
    (folder / "out.json").chmod(0o600)
    assert run("nms", "in.json", "-o", "out.json", "--force").exit_code == 0
    assert (folder / "out.json").read_bytes() == JSON_OUT
    assert stat.S_IMODE((folder / "out.json").stat().st_mode) == 0o600
    assert names(folder) == ["in.json", "out.json"]


def test_the_input_is_replaced_by_force_alone(run, folder):
    assert refused(run("nms", "in.json", "-o", folder / "in.json"), "exists already")
    assert (folder / "in.json").read_bytes() == JSON_IN
    assert run("nms", "in.json", "-o", folder / "in.json", "--force").exit_code == 0
    assert (folder / "in.json").read_bytes() == JSON_OUT


def test_a_new_output_has_the_permissions_of_a_new_file(run, folder):
    (folder / "other").touch()
    run("nms", "in.json", "-o", "out.json")
    assert (folder / "out.json").stat().st_mode == (folder / "other").stat().st_mode


def test_a_link_to_the_output_stays_a_link(run, folder):
    (folder / "real").mkdir()
    (folder / "real" / "target.json").write_text("mine")
    (folder / "out.json").symlink_to("real/target.json")
    assert refused(run("nms", "in.json", "-o", "out.json"), "exists already")
    assert run("nms", "in.json", "-o", "out.json", "--force").exit_code == 0
    assert (folder / "out.json").is_symlink()
    assert (folder / "real" / "target.json").read_bytes() == JSON_OUT
    assert names(folder / "real") == ["target.json"]


def no_hard_links(*_):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("hard_links", [True, False])
def test_an_output_that_appears_during_the_work_is_left_alone(run, folder, monkeypatch, hard_links):
    def meanwhile(*args, **options):
        (folder / "out.json").write_text("theirs")
        return true_nms(*args, **options)

    true_nms = anyops.nms
    monkeypatch.setattr(anyops, "nms", meanwhile)
    if not hard_links:
        monkeypatch.setattr(Path, "hardlink_to", no_hard_links)
    assert refused(run("nms", "in.json", "-o", "out.json"), "out.json", "exists already")
    assert (folder / "out.json").read_text() == "theirs"
    assert names(folder) == ["in.json", "out.json"]


def test_a_file_system_without_hard_links(run, folder, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", no_hard_links)
    assert run("nms", "in.json", "-o", "out.json").exit_code == 0
    assert (folder / "out.json").read_bytes() == JSON_OUT
    assert names(folder) == ["in.json", "out.json"]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("error", "code"), [(OSError(errno.ENOSPC, "No space left on device"), 2), (KeyboardInterrupt(), 130)]
)
@pytest.mark.parametrize("step", ["fsync", "move"])
def test_a_write_that_fails_leaves_nothing(run, folder, monkeypatch, *, force, error, code, step):
    def fail(*_):
        raise error

    if force:
        (folder / "out.json").write_text("mine")
    before = names(folder)
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "hardlink_to", no_hard_links)
        monkeypatch.setattr(Path, "replace", fail)
    result = run("nms", "in.json", "-o", "out.json", *force)
    assert result.exit_code == code
    assert result.stderr == ("anyops: out.json: cannot be written: No space left on device\n" if code == 2 else "")
    assert names(folder) == before
    if force:
        assert (folder / "out.json").read_text() == "mine"


# In its own process: what only the operating system can do to a command


def test_as_a_process(command, folder):
    result = subprocess.run(
        [*command, "nms", "-", "-o", "-", "--iou-threshold=0.5"],
        input=JSON_IN, capture_output=True, cwd=folder, check=False, timeout=120,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, JSON_OUT)
    assert result.stderr.startswith(b"2 boxes in, 1 boxes out, ")
    assert b"\x1b" not in result.stderr


def writing_end(pipe):
    """Open a named pipe for writing, or return None if nobody reads it yet."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupted(command, folder):
    os.mkfifo(folder / "pipe.json")
    # Background processes of a shell ignore SIGINT, and so would their children.
    restored = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    arguments = [sys.executable, "-c", restored, *command, "nms", "pipe.json", "-o", "out.json"]
    with subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE) as process:
        while (pipe := writing_end(folder / "pipe.json")) is None and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    if pipe is not None:
        os.close(pipe)
    assert (process.returncode, stderr) == (130, b"")
    assert names(folder) == ["in.json", "pipe.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_that_leaves_is_no_news(command, folder):
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [*command, "nms", "in.json", "-o", "-"],
        stdout=write, stderr=subprocess.PIPE, cwd=folder, check=False, timeout=120,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_is_full(command, folder):
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*command, "nms", "in.json", "-o", "-"],
            stdout=full, stderr=subprocess.PIPE, cwd=folder, check=False, timeout=120,
        )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == b"anyops: standard output: cannot be written: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_on_a_terminal_a_bar_shows_the_stages(command, folder):
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(
        [*command, "nms", "in.json", "-o", "out.json"],
        stderr=theirs,
        cwd=folder,
        env=environment,
        check=True,
        timeout=120,
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "write" in shown
    assert "/4" in shown
    assert shown.rstrip().endswith("seconds")
    assert json.loads((folder / "out.json").read_text()) == [json.loads(BEST)]


@pytest.mark.parametrize(("redirection", "named"), [("- -o - <&-", "input"), ("IN -o - >&-", "output")])
def test_a_closed_stream_is_one_line(tmp_path, redirection, named):
    pytest.importorskip("typer", reason="the command line needs the extra")
    (tmp_path / "IN.json").write_text("[]")
    command = f"{sys.executable} -m anyops.cli nms {redirection.replace('IN', 'IN.json')}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr
