"""Images through their views: the same pixels by threads and by worker processes, and how workers end."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import FileLock, Timeout

from kd2mobile import pixels
from kd2mobile.data import decode_workers as rendering
from kd2mobile.data.decode_workers import render_views, renderer
from kd2mobile.data.views import VIEW_DTYPE
from kd2mobile.errors import ImageError, WorkerError
from kd2mobile.files import TEMPORARY


@pytest.fixture
def two(image, tmp_path):
    """Two images, and two views of each: the whole one, and its right half mirrored."""
    views = np.zeros((2, 2), VIEW_DTYPE)
    views["box"] = [[0, 0, 1, 1], [0.5, 0, 1, 1]]
    views["flip"][:, 1] = 1
    return [image(tmp_path / f"{i}.png", i) for i in range(2)], views


def test_each_view_is_the_box_of_its_image(two):
    paths, views = two
    rendered = render_views(paths, views, 4)
    assert rendered.shape == (2, 2, 4, 4, 3) and rendered.dtype == np.uint8
    for path, (whole, half) in zip(paths, rendered, strict=True):
        image = pixels.open_image(path)
        np.testing.assert_array_equal(whole, np.asarray(image.resize((4, 4), 2)))
        right = image.resize((4, 4), 2, box=(image.width / 2, 0, image.width, image.height))
        np.testing.assert_array_equal(half, np.asarray(right)[:, ::-1])


def test_workers_render_the_same_bits_and_end_with_the_block(two):
    with renderer(0, two[0][0].parent) as render:
        assert render is render_views
    with renderer(2, two[0][0].parent) as render:
        pool = render.__self__
        assert all(pool.pids)
        for _ in range(2):
            np.testing.assert_array_equal(render(*two, 5), render_views(*two, 5))
    assert pool.pids == [None, None]


def test_a_damaged_image_is_named_and_the_worker_continues(two):
    paths, views = two
    whole = paths[1].read_bytes()
    paths[1].write_bytes(b"nonsense")
    with renderer(1, two[0][0].parent) as render:
        with pytest.raises(ImageError, match=r"1.png: must be a readable image, got UnidentifiedImageError"):
            render(paths, views, 4)
        paths[1].write_bytes(whole)
        assert render(paths, views, 4).shape == (2, 2, 4, 4, 3)


@pytest.mark.parametrize(
    ("dying", "cause"),
    [
        ("import sys; sys.stdin.buffer.read(1); sys.exit(3)", "ended with status 3"),
        ("import os, sys; sys.stdin.buffer.read(1); os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("import sys; sys.stdin.buffer.read(1); sys.stdout.write('x'); sys.exit(4)", "ended with status 4"),
        ("import sys; sys.exit(5)", "ended with status 5"),
    ],
)
def test_the_message_of_a_dead_worker_names_its_image(two, monkeypatch, dying, cause):
    if sys.platform == "win32" and "SIG" in cause:
        pytest.skip("no signals")
    monkeypatch.setattr(rendering, "_COMMAND", ["-c", dying])
    with renderer(2, two[0][0].parent) as render, pytest.raises(WorkerError) as caught:
        render(*two, 4)
    message = str(caught.value)
    assert message.startswith("label.workers, one of 2: must run until the pass is done, got one that ")
    assert f" {cause} at {two[0][0]} or" in message
    assert message.endswith("or `--workers 0`. Finished work is kept: run the same command to resume.")


def test_a_worker_loads_no_framework():
    code = (
        "import sys, kd2mobile.data.decode_workers;"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


CTRL_C = """
import os, signal, sys
import numpy as np
from kd2mobile.data.decode_workers import renderer
from kd2mobile.data.views import VIEW_DTYPE
views = np.zeros((1, 1), VIEW_DTYPE)
views["box"] = 0, 0, 1, 1
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
with renderer(2, os.path.dirname(sys.argv[1])) as render:
    render([sys.argv[1]], views, 4)
    try:
        os.killpg(0, signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt:
        print(render([sys.argv[1]], views, 4).shape)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
print(render.__self__.pids)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
@pytest.mark.parametrize("end", ["well", "killed"])
def test_ctrl_c_reaches_the_parent_alone_and_no_worker_outlives_it(two, end):
    run = subprocess.run(  # waits for the end of everything that holds the pipes: the workers too
        [sys.executable, "-c", CTRL_C, two[0][0], end],
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert run.stderr == ""
    if end == "well":
        assert run.stdout == "(1, 1, 4, 4, 3)\n[None, None]\n" and run.returncode == 0
    else:
        assert run.returncode == -signal.SIGKILL


LARGE_FROM_ONE_PIXEL = """
from kd2mobile import pixels
from kd2mobile.data.decode_workers import main
pixels.LARGE_IMAGE = 1
main()
"""


def test_workers_decode_large_images_one_at_a_time(two, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "_COMMAND", ["-c", LARGE_FROM_ONE_PIXEL])
    with renderer(3, two[0][0].parent) as render, ThreadPoolExecutor(3) as threads:
        for seen in threads.map(lambda _: render(*two, 5), range(9)):
            np.testing.assert_array_equal(seen, render_views(*two, 5))
        left = list(two[0][0].parent.glob(".one-large-image.*"))
        assert left and all(TEMPORARY.fullmatch(path.name) for path in left), "swept after a kill"
    assert not list(two[0][0].parent.glob(".*"))
    lock, same = FileLock(tmp_path / "turn.lock"), FileLock(tmp_path / "turn.lock")
    monkeypatch.setattr(pixels, "_one_large", pixels._one_large)  # put back after the test
    monkeypatch.setattr(pixels, "LARGE_IMAGE", 1)
    pixels.take_turns_by(lock)
    with pixels.opened(two[0][0]), pytest.raises(Timeout):
        same.acquire(blocking=False)
    with same.acquire(blocking=False):
        pass
