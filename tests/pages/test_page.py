"""The page as bytes: whole, closed to the network, deterministic, and deaf to what its data tries to say."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import msgspec
import pytest

from kd2mobile.errors import ArtifactError
from kd2mobile.pages.page import render, write_report
from kd2mobile.pages.plots.accuracy import accuracy_plots
from kd2mobile.pages.plots.curves import kept_epoch
from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.view import ShownFile
from kd2mobile.tflite.results import Agreement, LayerError, TfliteResults
from tests.made_results import tflite_results

VOID = {"meta", "img", "br", "hr", "input", "link", "wbr", "col", "source"}
HOSTILE = "<img src=x onerror=alert(1)> \"quote\" 'tick' & $x$ $\\frac{1}$ {{ 7 * 7 }} </title></style></svg>"


class Page(HTMLParser):
    """Elements with their attributes, and the text; fails on a tag that is not balanced."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert tag in VOID or "svg" in self.open, f"<{tag}/> closes nothing in HTML"

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def pages():
    return {}


@pytest.fixture
def html(make_report, pages):
    """The made-up page, made once."""
    if "html" not in pages:
        pages["html"] = render(make_report())
    return pages["html"]


def test_the_page_names_no_address_and_runs_one_script(html):
    text = re.sub(r"data:image/(png|jpeg);base64,[\w+/=]+", "", html)
    assert "data:" not in text.replace("img-src data:", "")
    assert not re.search(r"https?:|//\w|ftp:|@import|url\((?!#)", text)
    page = Page(html)
    assert page.all("script") == [{}] and not page.all("link") and not page.all("iframe")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall("<script>(.*)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_page_is_well_formed_and_says_what_it_shows(html):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) - len(page.all("desc")) == 1
    assert all(image["alt"] for image in page.all("img")) and len(page.all("img")) > 12
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(below - above <= 1 for above, below in zip(levels, levels[1:], strict=False))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in cell for cell in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([\w-]+)', html)
    used += [i for _, a in page.elements for i in a.get("aria-labelledby", "").split()]
    assert set(used) <= set(ids)


def test_every_plot_speaks_to_a_screen_reader(html):
    plots = re.findall(r'<svg[^>]*role="img".*?</svg>', html, re.DOTALL)
    assert len(plots) == 8
    for plot in plots:
        assert re.match(r'<svg[^>]*><title id="([\w-]+)-title">[^<]+</title><desc id="\1-desc">[^<]+</desc>', plot)
        assert "#a1b2" not in plot and "var(--muted)" in plot and "font-family" not in plot and "<style" not in plot
    assert "student mobilenet025 int8: 82.7 % at 0.23" in plots[0]
    assert "teacher mobilenetv2 fp32: 90.7 %, a dashed line" in plots[0]
    assert "Accuracy over confidence of the student student's name: overconfident in" in plots[6]
    assert "with the teacher: kept 83.79 at epoch 30, last 83.79 at epoch 30" in plots[2]


def test_the_same_data_makes_the_same_bytes(make_report, html, tmp_path):
    write_report(tmp_path / "report.html", make_report())
    assert (tmp_path / "report.html").read_bytes() == html.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_everything_from_outside_is_escaped(make_report, make_record, make_pair, make_image, make_looks):
    names = [f"{HOSTILE} {i}" for i in range(4)]
    found = make_looks(names, n=40)
    evaluated = [msgspec.structs.replace(one, name=HOSTILE) for one in found["calibrations"]]
    files = [msgspec.structs.replace(one, reference=HOSTILE, precision=HOSTILE) for one in found["disagreements"]]
    data = make_report(
        title=HOSTILE,
        run=HOSTILE,
        recipe={HOSTILE: {HOSTILE: HOSTILE, "list": [HOSTILE]}},
        records=[
            make_record(model=HOSTILE, device=HOSTILE, runtime=HOSTILE, sha256=HOSTILE),
            make_record("teacher", HOSTILE, HOSTILE, 0.9, None, None),
            make_record("external", HOSTILE, p50=80.0, compression=HOSTILE),
        ],
        paired=[make_pair(label=HOSTILE, a=HOSTILE, b=HOSTILE, precision=HOSTILE)],
        histories={HOSTILE: [{"epoch": 1, "val_top1": 0.5}]},
        images=[make_image(0, names, path=HOSTILE)],
        images_chosen=HOSTILE,
        classes=names,
        splits={HOSTILE: 1},
        skipped=[(HOSTILE, HOSTILE)],
        duplicates=[[HOSTILE, HOSTILE]],
        leaks=[[HOSTILE, HOSTILE]],
        contradictions=[[HOSTILE, HOSTILE]],
        confusion=msgspec.structs.replace(found["confusion"], model=HOSTILE),
        calibrations=evaluated,
        class_scores=found["class_scores"],
        disagreements=files,
        stages=[],
        exports=[
            ShownFile(
                HOSTILE,
                TfliteResults(
                    precision=HOSTILE,
                    compression=HOSTILE,
                    file=HOSTILE,
                    size_bytes=1,
                    sha256=HOSTILE,
                    keep_float=[HOSTILE],
                    parity=Agreement(1, 1.0, 0.0),
                ),
            )
        ],
        versions={HOSTILE: HOSTILE},
        commands=[HOSTILE],
        notes=[HOSTILE],
    )
    html = render(data)
    page = Page(html)
    assert "<img src=x" not in html and "49" not in "".join(page.words).split(HOSTILE[:4])[0]
    examples = sum(len(one.examples) for one in [*found["confusion"].pairs, *files])
    assert examples > 9 and len(page.all("img")) == 1 + examples and len(page.all("title")) == 1 + len(page.all("desc"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert html.count("$x$") >= 100
    assert "".join(page.words).count(HOSTILE) >= 80


def test_a_dollar_sign_in_a_plot_is_no_mathematics(make_report, make_record):
    records = [make_record("external", "$\\frac$", top1=0.5), make_record("external", "a $x$ <b>", p50=9.0)]
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", render(make_report(records=records)))
    assert "$\\frac$ int8" in labels and "a $x$ &lt;b&gt; int8" in labels


def test_names_that_no_file_can_hold_are_spelled_out(make_report, make_record, make_image):
    odd = "new\nline \x1b[31m \udcff \u202egpj \x00"
    data = make_report(
        records=[make_record(model=odd), make_record("external", "漢字")],
        histories={odd: [{"epoch": 1, "val_top1": 0.5}]},
        images=[make_image(0, [odd, "ö"], path=odd)],
    )
    html = render(data)
    html.encode()
    assert "new\\nline \\x1b[31m \\udcff \\u202egpj \\x00" in html and "漢字" in html
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", html)


def test_nulls_are_dashes_that_say_why(make_report, make_record):
    unknown = dict.fromkeys(("top5", "logloss", "ece", "teacher_agreement", "peak_rss_mib", "threads", "sha256"))
    bare = make_record(
        precision=None, compression=None, size_bytes=None, p50=None, device=None, runtime=None, **unknown
    )
    html = render(make_report(records=[bare], paired=[]))
    Page(html)
    assert html.count('<abbr title="not measured">–</abbr>') == 7
    assert "None" not in html and "nan" not in re.sub(r'src="[^"]*"', "", html)
    assert "plot-latency" not in html and "plot-size" not in html


def test_an_empty_run_is_still_a_page(make_report):
    nothing = dict(records=[], paired=[], histories={}, images=[], classes=[], splits={}, skipped=[], stages=[])
    unseen = dict(confusion=None, calibrations=[], class_scores=[], disagreements=[])
    html = render(make_report(**nothing, **unseen, exports=[], versions={}, commands=[], notes=[], recipe={}))
    page = Page(html)
    assert [a["id"] for a in page.all("section")] == ["models", "made"]
    assert [a["href"] for a in page.all("a")] == ["#models", "#models", "#made"]
    assert "No student has been measured yet" in html and "Run <code>kd2mobile benchmark</code>" in html


def test_the_answers_are_shown_in_words_and_numbers(make_report, html):
    data, text = make_report(), re.sub(r"\s+", " ", " ".join(Page(html).words))
    confusion, file = data.confusion, data.disagreements[0]
    assert f"errs on {confusion.errors} of 300 test images, in {confusion.pairs_in_all} pairs of classes" in text
    assert "These are the 12 most frequent. Each pair shows at most 3 images" in text
    pair = confusion.pairs[0]
    assert f"{pair.true_class} → taken for {pair.predicted_class} {pair.count} of {pair.n} test images" in text
    assert f"Of 300 test images, {file.count} ({file.count / 3:.1f} %) get a different class" in text
    assert "Single classes are noise: a class of 10 images moves by 10 points" in text
    assert "3,030 in train, 868 in val, 1,692 in test" in text and "2 groups of identical images" in text
    assert "1 in more than one split" in text and "1 in more than one class" in text
    first = data.class_scores[0]
    more = first.right - first.other_right
    assert f"{first.name} {more:+} {100 * more / first.n:+.1f} {first.n} {first.right} {first.other_right}" in text


def test_long_lists_are_cut_and_say_so(make_report):
    groups = [[f"a/{i}-{j}.jpg" for j in range(8)] for i in range(51)]
    many = [(f"broken/{i}.jpg", "truncated") for i in range(201)]
    html = render(make_report(skipped=many, duplicates=groups, leaks=[], contradictions=[], images=[]))
    assert "201 skipped" in html and "broken/199.jpg" in html and "broken/200.jpg" not in html
    assert "The first 200; the run's split.json has all." in html
    assert "51 groups of identical images" in html and "a/49-5.jpg" in html and "and 2 more" in html
    assert "a/50-0.jpg" not in html and "a/0-6.jpg" not in html and "more than one split" not in html


def test_a_matrix_only_where_it_can_be_read(make_report, make_looks):
    assert 'class="matrix"' in render(make_report(images=[]))
    names = [f"class {i}" for i in range(26)]
    found = make_looks(names, n=200)
    assert found["confusion"].matrix is None
    assert 'class="matrix"' not in render(make_report(images=[], classes=names, **found))


def test_histories_with_gaps_and_one_epoch(make_report):
    rows = [{"epoch": 1, "val_top1": None, "loss": float("nan")}, {"epoch": 2, "val_top1": 0.25, "loss": 1.5}]
    html = render(make_report(histories={"student": rows, "baseline": rows[:1]}))
    assert "curve-val-top1" in html and "curve-val-logloss" not in html
    assert "with the teacher: 25.0 % validation top-1 at epoch 2 of 2" in html


def test_records_measured_in_different_places_say_where(make_report, make_record):
    one = render(make_report())
    assert "Measured on 1,692 test images; host: made up, LiteRT 0.0, 1 thread (the teacher: " in one
    records = [make_record(), make_record("external", device="made-up board", n=50)]
    two = render(make_report(records=records))
    assert '<li id="measured-1">host: made up, LiteRT 0.0, 1 thread</li>' in two
    assert '<li id="measured-2">made-up board, LiteRT 0.0, 1 thread</li>' in two
    assert re.findall('<sup><a href="#measured-([0-9]+)"', two) == ["1", "2"] and "<sup>" not in one
    assert re.findall('<td class="num">([0-9,]+ #....)</td>', two) == ["1,692 #0a1b", "50 #0a1b"]
    assert ">Images <small>" in two and ">Images <small>" not in one


def test_other_numbers_of_images_are_no_other_way_of_timing(make_report, make_record):
    page = render(make_report(records=[make_record(), make_record("external", n=50)]))
    assert "Measured on host: made up, LiteRT 0.0, 1 thread." in page and "<sup>" not in page


def test_an_image_that_is_gone_is_named_on_the_page(make_report, make_image, tmp_path):
    html = render(make_report(images=[make_image(0, image=tmp_path / "gone.jpg")]))
    assert 'class="gone"' in html and "must be there" in html


def test_a_folder_that_is_not_there_is_an_error_with_a_next_step(make_report, tmp_path):
    with pytest.raises(ArtifactError, match=r"/report\.html: must be there, got no such file"):
        write_report(tmp_path / "missing" / "report.html", make_report(images=[], histories={}))


def test_the_dot_is_at_the_epoch_that_training_kept():
    rows = [(1, 0.5, 1.0), (2, 0.75, 0.9), (3, 0.75, 0.8), (4, 0.75, 0.8), (5, None, 0.1)]
    history = [{"epoch": epoch, "val_top1": top1, "val_logloss": logloss} for epoch, top1, logloss in rows]
    assert kept_epoch(history)["epoch"] == 3
    assert kept_epoch([{"epoch": 1, "loss": 2.0}]) is None


def test_points_on_top_of_each_other_do_not_get_names_on_top_of_each_other(make_report, make_record):
    crowd = [make_record("external", f"model-{i}", top1=0.8 + i * 1e-5) for i in range(30)]
    labels = re.findall(r"<text[^>]*>(model-\d+ int8)</text>", render(make_report(records=crowd)))
    assert 2 <= len(labels) < 30


@pytest.mark.parametrize("student", [0.02, 0.3, 0.9, 0.998, 1.0])
def test_the_name_of_a_faultless_teacher_is_below_the_title(make_record, student):
    records = [make_record("teacher", "mobilenetv2", "fp32", 1.0, None, None), make_record(top1=student)]
    for plot in accuracy_plots([msgspec.to_builtins(record) for record in records]):
        written = re.findall(r'<text style="([^"]*)" x="[^"]*" y="([\d.]+)"[^>]*>([^<]+)</text>', plot)
        height = {text.partition(" ")[0]: float(y) for _, y, text in written}
        assert height["teacher"] - height["Accuracy"] >= 11, "they stand on each other"
        ticks = [float(text) for style, _, text in written if "text-anchor: end" in style and "mobile" not in text]
        assert len(ticks) >= 3 and max(ticks) <= 100, "no accuracy is above 100 %"


def exported(name: str, layers: list[tuple], role: str = "student", **known) -> ShownFile:
    rows = [msgspec.to_builtins(LayerError(*row)) for row in layers]
    known = {
        "file": f"{name}-int8.tflite",
        "size_bytes": 9_000,
        "layer_errors": {"images": 100, "layers": rows},
    } | known
    return ShownFile(role, tflite_results(**known))


def test_what_quantization_does_to_each_layer_the_worst_first(make_report):
    layers = [
        ("conv1", "CONV_2D", "int8", 0.012, 0.012, 38.4, 1.5),
        (HOSTILE, "DEPTHWISE_CONV_2D", "int8", 0.183, 0.171, 14.75, 20.25),
        ("flat", "CONV_2D", "int8", None, None, None, None),
        ("logits", "FULLY_CONNECTED", "float32", 0.24, 0.013, 28.0, None),
    ]
    lost = {"difference": -0.0012, "interval_95": [-0.0058, 0.0035]}
    options = {"per_tensor": True, "keep_float": ["conv1"]}
    files = [exported("tiny", layers, compressed_bytes=8_765, against_student=lost, **options)]
    files += [exported("tiny", layers, "baseline", file="baseline-tiny-int8.tflite")]
    html = render(make_report(exports=files))
    page = Page(html)
    section = html.partition('<section id="layers"')[2].partition("</section>")[0]
    names = re.findall(r'<th scope="row">(.*?)</th>', section)
    assert [name[:7] for name in names] == ["&lt;img", "logits", "conv1", "flat"]
    assert "baseline-tiny" not in section and "<img" not in section and section.count("<svg") == 1
    cells = re.findall(r"<td[^>]*>(.*?)</td>", section)
    assert cells[:6] == ["DEPTHWISE_CONV_2D", "int8", "17.10", "18.30", "14.8", "20.25"]
    text = " ".join(page.words)
    assert "int8, one scale per tensor, except conv1" in text
    assert "-0.12 (-0.58 to +0.35)" in text and "8,765" in text and "100 validation images" in text


def test_a_compressed_file_says_by_what_and_what_was_counted_in_it(make_report):
    lost = {"difference": 0.0, "interval_95": [0.0, 0.0]}
    pruned = {"compression": "prune", "weights": {"zeros": 0.5, "clusters_of_output": 1234}}
    files = [
        exported("tiny", [], compressed_bytes=1, against_student=lost, **said)
        for said in (pruned, {"compression": "none"})
    ]
    html = render(make_report(exports=files))
    section = html.partition('<section id="parity"')[2].partition("</section>")[0]
    assert "int8, prune</th>" in section and "int8</th>" in section
    assert "Zeros" in section and '<td class="num">50.0</td><td class="num">1,234</td>' in section


def test_the_download_of_compressed_students_is_shown_and_why_a_file_is_recommended(make_report, make_record, html):
    pruned = make_record(compression="prune", size_bytes=353_000, compressed_bytes=198_765, sha256="cd" * 32)
    page = render(make_report(records=with_recommendation([make_record(compressed_bytes=317_000), pruned])))
    models = page.partition('<section id="models"')[2].partition("</section>")[0]
    assert "Download <small>KB</small>" in models and '<td class="num">199</td>' in models
    assert "Download is the file compressed (deflate)" in models
    reason = "of the 2 files within 0.5 points of the most accurate one on the 870 validation images."
    assert f"★ int8, prune is recommended: the smallest download {reason}" in models
    assert "Download <small>" not in html and "★ int8 is recommended: the smallest download of the 4 files" in html


def test_files_of_earlier_versions_have_neither_layers_nor_losses(html):
    assert 'id="layers"' not in html and "Top-1 less the student's" not in html and "Download" not in html
