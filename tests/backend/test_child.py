"""No child process outlives its parent, by whatever the parent ends, and SIGTERM stops a command as Ctrl-C does."""

import ast
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

import kd2mobile
from kd2mobile.backend.child import Child
from kd2mobile.backend.tensorflow_process import TensorFlowProcess
from kd2mobile.backend.with_parent import with_parent
from kd2mobile.errors import DataError, OutOfMemoryError
from kd2mobile.measure.ssh import board_program

LINUX = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")
LONGEST_S = 120
STARTED_ALONE = {
    "backend/with_parent.py": "the launcher itself",
    "measure/host/machine.py": "sysctl answers at once",
    "measure/ssh/refusals.py": "`ssh -G` answers at once",
    "measure/ssh/board_program.py": "runs on a board, without the package: it ends with the connection",
}
"""Modules whose processes need not be bound to their parent, and why."""

BLOCKING = """
    import os, signal
    import msgspec
    from kd2mobile.backend.tensorflow_process import run_in_tensorflow, serve

    class Job(msgspec.Struct):
        pass

    def work(job, tell):
        tell("result", result={"pid": os.getpid()})
        signal.pause()

    if __name__ == "__main__":
        serve(work, Job)
"""
PARENTS = {
    "any program": """
        import subprocess, sys
        from kd2mobile.backend.with_parent import with_parent
        child = subprocess.Popen(
            with_parent([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(1e6)"])
        )
        child.wait()
    """,
    "TensorFlow's": """
        from blocking import Job, run_in_tensorflow
        run_in_tensorflow("blocking", Job(), "test", dict, done=lambda result: print(result["pid"], flush=True))
    """,
    "TensorFlow's where the kernel does not help": """
        from blocking import Job, run_in_tensorflow
        from kd2mobile.backend import child
        child.with_parent = lambda command: command
        run_in_tensorflow("blocking", Job(), "test", dict, done=lambda result: print(result["pid"], flush=True))
    """,
    "workers that decode": """
        import signal, threading
        from kd2mobile.data.decode_workers import renderer
        with renderer(2, "."):
            print(open(f"/proc/self/task/{threading.get_native_id()}/children").read(), flush=True)
            signal.pause()
    """,
}


@LINUX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", PARENTS)
def test_a_child_ends_with_its_parent(kind, how, tmp_path):
    (tmp_path / "blocking.py").write_text(textwrap.dedent(BLOCKING))
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENTS[kind]))
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True) as parent:
        children = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(how)
        parent.wait(LONGEST_S)
    assert children
    for child in children:
        ended, _, _ = select.select([child], [], [], LONGEST_S)
        os.close(child)
        assert ended, f"the child of {kind} lives on"


def test_every_process_of_the_package_is_bound_to_its_parent():
    home = Path(kd2mobile.__file__).parent
    alone = {}
    for source in sorted(home.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call", "os.system",
                "os.popen", "os.fork", "multiprocessing.Process", "ProcessPoolExecutor",
            } and "with_parent" not in ast.unparse(node.args[0]):  # fmt: skip
                alone.setdefault(source.relative_to(home).as_posix(), []).append(ast.unparse(node.args[0]))
    assert alone.pop("measure/ssh/connection.py") == ["self._ssh('-O', 'exit')"], "it ends the shared connection"
    assert alone.keys() <= STARTED_ALONE.keys(), alone


def test_a_missing_program_is_reported_by_its_caller():
    with pytest.raises(FileNotFoundError):
        subprocess.run(with_parent(["no-such-program-here"]))


@LINUX
def test_the_status_and_the_output_are_the_commands_own():
    command = [sys.executable, "-c", "import sys; print(sys.argv[1], input()); sys.exit(7)", "a b"]
    done = subprocess.run(with_parent(command), input="c\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b c\n", "")


SEVERAL = """
    import os
    import msgspec
    from kd2mobile.backend.tensorflow_process import serve

    class Job(msgspec.Struct):
        does: str

    def work(job, tell):
        tell("result", result={"pid": os.getpid(), "does": job.does})
        if job.does == "fails":
            raise ZeroDivisionError("a bug")

    if __name__ == "__main__":
        serve(work, Job)
"""


def test_one_process_does_the_jobs_and_after_a_bug_another_one(tmp_path, monkeypatch):
    class Job(msgspec.Struct):
        does: str

    (tmp_path / "several.py").write_text(textwrap.dedent(SEVERAL))
    monkeypatch.syspath_prepend(tmp_path)
    with TensorFlowProcess("several", "test") as process:
        first, second = (process.run(Job(does), dict)[0] for does in ("this", "that"))
        with pytest.raises(RuntimeError, match=r"(?s)the test process ended with status 1:\nTraceback .*a bug$"):
            process.run(Job("fails"), dict)
        third = process.run(Job("this"), dict)[0]
    assert (first["does"], second["does"], third["does"]) == ("this", "that", "this")
    assert first["pid"] == second["pid"] != third["pid"]


ANSWERS = """
    import os
    from kd2mobile import progress
    from kd2mobile.backend.child import serve
    from kd2mobile.errors import DataError

    def answer(request, give):
        match request:
            case {"count": count}:
                print("a library's chatter")
                progress.say(f"counting to {count}")
                for number in range(count):
                    give(number)
            case {"bytes": data}:
                give(data[::-1])
            case {"refuse": path}:
                raise DataError(os.fsdecode(path), "must be a folder", None, "Check --data.")
            case {"system": number}:
                raise OSError(number, "Read-only file system", b"x\\xff")
            case {"memory": _}:
                raise MemoryError
            case {"exit": status}:
                os._exit(status)
            case _:
                os.read(os.pipe()[0], 1)  # waits for ever

    if __name__ == "__main__":
        serve(answer, dict)
"""


class Ended(Exception):
    """A Death."""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "answers.py").write_text(textwrap.dedent(ANSWERS))
    monkeypatch.syspath_prepend(tmp_path)
    with Child(["-m", "answers"], "the process of answers", Ended) as one:
        yield one


def test_results_come_one_by_one_and_progress_is_shown(child, capsys):
    assert list(child.results({"count": 3}, int)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "counting to 3\n")
    pixels = bytes(range(256)) * 4096
    assert child.ask({"bytes": pixels}, bytes) == pixels[::-1]


def test_what_the_child_met_is_raised_here_and_the_next_request_follows(child):
    pid = child.start().pid
    with pytest.raises(DataError) as refused:
        child.ask({"refuse": b"photos\xff"}, int)
    assert str(refused.value) == r"photos\udcff: must be a folder. Check --data."
    with pytest.raises(OSError) as raised:
        child.ask({"system": 30}, int)
    assert (raised.value.errno, raised.value.strerror, raised.value.filename) == (
        30,
        "Read-only file system",
        r"x\udcff",
    )
    with pytest.raises(OutOfMemoryError):
        child.ask({"memory": 0}, int)
    assert child.ask({"bytes": b"ab"}, bytes) == b"ba" and child.pid == pid


def test_a_death_is_described_and_another_child_follows(child):
    pid = child.start().pid
    with pytest.raises(Ended) as ended:
        child.ask({"exit": 3}, int)
    (death,) = ended.value.args
    assert (death.how, death.last, death.late, child.pid) == ("ended with status 3", "", False, None)
    assert child.ask({"bytes": b"ab"}, bytes) == b"ba" and child.pid != pid


def test_a_child_that_takes_longer_than_it_may_is_ended(child):
    with pytest.raises(Ended) as ended:
        child.ask({"wait": None}, int, most_seconds=0.01)
    assert ended.value.args[0].late


def test_who_wants_no_more_results_ends_the_child(child):
    results = child.results({"count": 3}, int)
    assert next(results) == 0
    results.close()
    assert child.pid is None


@LINUX
def test_what_runs_on_a_board_ends_with_the_connection(tmp_path):
    """A command that says nothing: only the end of the other side can be noticed."""
    os.mkfifo(tmp_path / "pid")
    long = f"import os, time; print(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w')); time.sleep(1e6)"
    code = f"""
import sys
sys.path.insert(0, {str(Path(board_program.__file__).parent)!r})
import board_program
board_program.end_with_connection()
board_program._run([sys.executable, "-c", {long!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        command = os.pidfd_open(int((tmp_path / "pid").read_text()))
        program.stdout.close()
        assert program.wait(LONGEST_S) == 1
    ended, _, _ = select.select([command], [], [], LONGEST_S)
    os.close(command)
    assert ended


STOPPED = """
import signal, sys
import click
from kd2mobile.cli.exit_status import heed_signals, status_of

@click.group()
def main():
    pass

@main.command()
def distill():
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        print("tidied up", flush=True)

heed_signals()
sys.exit(status_of(main, ["distill"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_stops_a_command_as_ctrl_c_does(name, status):
    prepared = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a child may inherit another
    )
    prepared += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", prepared + STOPPED], **pipes) as command:
        assert command.stdout.readline() == "ready\n"
        command.send_signal(getattr(signal, name))
        output, err = command.communicate(timeout=LONGEST_S)
    assert (command.returncode, output) == (status, "tidied up\n")
    assert err == "interrupted: finished stages are kept. Run the same command to resume.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_that_is_ignored_stays_so():
    """As nohup starts a command."""
    code = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from kd2mobile.cli.exit_status import heed_signals
heed_signals()
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", code], check=True)
