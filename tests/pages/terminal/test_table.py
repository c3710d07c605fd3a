import io

import pytest
from rich.console import Console

from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.terminal.table import text_table


def latency(rounds, **more):
    p50 = sorted(rounds)[len(rounds) // 2]
    return {"p50": p50, "p90": 10 * p50, "p99": 11 * p50, "mean": p50, "n": 300, "rounds": rounds, **more}


def test_plain_text_fits_and_aligns(make_report):
    text = text_table(make_report().records, make_report().paired, terminal=False)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line for line in lines if line[2:].startswith(("teacher ", "student ", "baseline "))]
    assert len(rows) == 9 and len({len(row) for row in rows}) == 1
    assert [row for row in rows if row.startswith("*")] == [row for row in rows if "student" in row and " int8 " in row]
    assert "McNemar" in text


def test_the_paired_test_of_one_student_is_told_once(make_report, make_pair):
    """Four files of the same two networks have four tests: the terminal tells that of the recommended one."""
    pairs = [make_pair(precision=p, label=f"student, {p}") for p in ("fp32", "fp16", "int8_dynamic", "int8")]
    text = " ".join(text_table(make_report().records, pairs, terminal=False).split())
    assert text.count("McNemar") == 1 and "student, int8: top-1 with the teacher is 2.5 points higher" in text
    assert "The report has the same test of 3 more files." in text
    assert "more file" not in text_table(make_report().records, pairs[:1], terminal=False)


def test_a_busy_host_and_the_ratios_of_the_rounds_are_said_below_the_table(make_record):
    rounds = {"measured_at": "2026-11-30T12:00:00Z"}
    fp32, int8 = ([0.62, 6.2, 1.24, 0.62, 0.62], [0.84, 8.4, 1.68, 0.84, 0.84])
    records = [
        make_record(precision=p, sha256=p, latency_ms=latency(of, busy=True), **rounds)
        for p, of in (("fp32", fp32), ("int8", int8))
    ]
    text = " ".join(text_table(records, terminal=False).split())
    assert "host: made up was busy while it timed fp32, int8: these latencies are too high." in text
    assert ", in 5 rounds: int8 takes 1.35 (1.35 to 1.35) of the time of fp32." in text


def test_long_and_hostile_names_are_whole_and_fit_a_terminal(make_record):
    hostile = make_record("student", model="\x1b[31m" + "x\n" * 80, precision="int8_dynamic", size_bytes=999_999_999)
    plain, screen = text_table([hostile], terminal=False), io.StringIO()
    Console(file=screen, width=100).print(text_table([hostile], terminal=True))
    assert "\x1b" not in plain + screen.getvalue() and max(map(len, screen.getvalue().splitlines())) <= 100
    assert plain.partition("\n\n")[0].count("x\\n" * 80) == 1, "a pipe has no width"


def test_a_pipe_gets_the_names_of_a_sweep_whole(make_record):
    other = {"top1": None, "n": 0, "xnnpack": False, "rule": "mlperf"}
    sweep = [
        make_record(model="mobilenet025 as someone named it"),
        make_record(model="mobilenet025", threads=4, **other),
    ]
    text = text_table(sweep, terminal=False)
    rows = [line[2:].split("  ")[:4] for line in text.splitlines() if line[2:].startswith("student ")]
    assert [row[1:2] for row in rows] == [["mobilenet025"], ["mobilenet025 as someone named it"]] and "…" not in text


def test_a_terminal_gets_a_rich_table_that_reads_no_markup(make_record, make_pair):
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=True, color_system=None)
    records = [make_record(model="[red]x[/red]"), make_record("teacher", size_bytes=None, p50=None)]
    console.print(text_table(with_recommendation(records), [make_pair(label="[bold]a")], terminal=True))
    shown = screen.getvalue()
    assert "[red]x[/red] *" in shown and "[bold]a" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_every_models_name_and_every_number_whole(make_record, width):
    records = [make_record("teacher", "mobilenetv2", "fp32", size_bytes=None, p50=None)]
    records += [make_record("student", "mobilenet025", "int8_dynamic", size_bytes=1_180_000, p50=0.42)]
    records += [make_record("external", "squeezenet", None, compression=None, p50=1310)]
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True, color_system=None).print(
        text_table(with_recommendation(records), terminal=True)
    )
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width and "…" not in screen.getvalue()
    head = next(place for place, line in enumerate(lines) if "Model" in line)
    model = slice(lines[head].index("Model"), lines[head + 2].index("fp32"))
    body = lines[head + 2 : next(place for place, line in enumerate(lines) if place > head and not line.strip())]
    names = "".join(line[model].strip() for line in body)
    assert names == "mobilenetv2mobilenet025 *squeezenet"
    assert {"1,180", "0.42", "1,310"} <= set(screen.getvalue().split())


@pytest.mark.parametrize("terminal", [True, False])
def test_the_download_stands_beside_the_size_where_a_compressed_file_is_shown(make_record, terminal):
    plain = make_record(size_bytes=352_000, compressed_bytes=317_000)
    pruned = make_record(
        compression="prune", precision="int8_dynamic", size_bytes=353_000, compressed_bytes=198_000, sha256="cd" * 32
    )
    teacher = make_record("teacher", "mobilenetv2", "fp32", size_bytes=None, p50=None)

    def shown(*records):
        screen = io.StringIO()
        table = text_table(with_recommendation(list(records)), terminal=terminal)
        Console(file=screen, width=80, force_terminal=terminal, color_system=None).print(table)
        return screen.getvalue()

    text = shown(teacher, plain, pruned)
    assert "Download" in text and "…" not in text and {"352", "317", "353", "198"} <= set(text.split())
    if terminal:
        assert max(map(len, text.splitlines())) <= 80
    assert "int8_dynamic, prune is recommended: the smallest download of the 2 files" in " ".join(text.split())
    assert "Download" not in shown(teacher, plain)


def test_where_standard_output_is_no_terminal_it_is_text(make_record, capsys):
    assert isinstance(text_table([make_record()]), str)


@pytest.mark.parametrize("terminal", [True, False])
def test_no_records(terminal):
    shown = text_table([], terminal=terminal)
    screen = io.StringIO()
    Console(file=screen, width=100).print(shown)
    assert "No student has been measured yet" in screen.getvalue()


def test_what_is_scored_without_leaks_stands_beside_the_top1_where_any_image_leaked(make_record):
    leaked = make_record(top1=0.9, leaked=3, top1_without_leaked=0.878)
    lines = text_table([make_record(top1=0.9, leaked=0, top1_without_leaked=0.9)], terminal=False).splitlines()
    assert "No leaks" not in lines[0]
    heads, _, _, row = text_table([leaked], terminal=False).splitlines()[:4]
    assert heads.index("Top-1") < heads.index("No leaks") < heads.index("Top-5") and " 87.8 " in row
