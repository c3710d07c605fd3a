"""Several teachers in one recipe: by flags, in a file, and what is refused."""

from functools import partial

import pytest

from kd2mobile.errors import Kd2MobileError
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.toml import shown_tables, write_recipe
from kd2mobile.teachers.kinds import whole_images_only

PHOTOS = {"data.source": "photos"}


def names(recipe):
    return [teacher.name for teacher in recipe.teachers]


@pytest.mark.parametrize("typed", ["a.keras, b.keras", ["a.keras", "b.keras"], ("a.keras,b.keras",)])
def test_names_are_typed_with_commas_or_one_by_one(typed):
    composed = compose(settings={"teacher.name": typed, "teacher.seed": 3, **PHOTOS})
    assert [(one.name, one.seed) for one in composed.teachers] == [("a.keras", 3), ("b.keras", 3)]


def test_a_path_with_a_comma_is_one_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.keras").touch()
    assert names(compose(settings={"teacher.name": "a,b.keras"})) == ["a,b.keras"]
    written = compose(settings={"teacher.name": ["a,b.keras", "c.keras"]})
    write_recipe(written, tmp_path / "r.toml")
    (tmp_path / "a,b.keras").unlink()
    assert names(compose(tmp_path / "r.toml")) == ["a,b.keras", "c.keras"], "in a file it is a name as it stands"


@pytest.mark.parametrize("source", ["photos", "digits"])
def test_a_written_recipe_of_several_teachers_is_read_back_the_same(tmp_path, source):
    settings = {
        "teacher.name": "xception,my.keras,mobilenet",
        "ensemble.temperatures": [1, 2.5, 1],
        "ensemble.mean": "geometric",
        "data.source": source,
    }
    composed = compose(settings=settings)
    write_recipe(composed, tmp_path / "r.toml")
    assert compose(tmp_path / "r.toml") == composed
    demo = source == "digits"
    assert [one.input_px for one in composed.teachers] == [71 if demo else None, None, 71 if demo else None]
    assert [one.weights for one in composed.teachers] == ["none" if demo else "imagenet", "imagenet"] + (
        ["none"] if demo else ["imagenet"]
    )
    shown = shown_tables(composed)
    assert [shown[f"teacher {i}"]["name"] for i in (1, 2, 3)] == names(composed) and "teacher" not in shown


def test_a_file_sets_fields_per_teacher_and_flags_set_them_for_all(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text("[data]\nsource = 'p'\n[[teacher]]\nname = 'a.keras'\nseed = 1\n[[teacher]]\nname = 'mobilenet'\n")
    composed = compose(file, {"teacher.batch_size": 7})
    assert [(t.name, t.seed, t.batch_size) for t in composed.teachers] == [("a.keras", 1, 7), ("mobilenet", 0, 7)]
    assert names(compose(file, {"teacher.name": "xception"})) == ["xception"]
    assert [(t.name, t.seed) for t in compose(file, {"teacher.name": "x.h5,y.h5"}).teachers] == [
        ("x.h5", 0),
        ("y.h5", 0),
    ]
    file.write_text("[data]\nsource = 'p'\n[teacher]\nname = ['a.keras', 'b.keras']\nseed = 2\n")
    assert [(t.name, t.seed) for t in compose(file).teachers] == [("a.keras", 2), ("b.keras", 2)]
    file.write_text("[data]\nsource = 'p'\n[[teacher]]\nname = 'a.keras'\n")
    assert compose(file) == compose(settings={"data.source": "p", "teacher.name": "a.keras"}), "a list of one is one"


def test_members_are_one_teacher_with_a_seed_each(tmp_path):
    composed = compose(settings={"teacher.name": "xception", "teacher.seed": 5, "ensemble.members": 3, **PHOTOS})
    assert [(one.name, one.seed) for one in composed.teachers] == [("xception", 5), ("xception", 6), ("xception", 7)]
    write_recipe(composed, tmp_path / "r.toml")
    assert compose(tmp_path / "r.toml") == composed


def test_given_logits_beside_a_network_mean_whole_images():
    whole = partial(compose, whole_images_only=whole_images_only)
    assert whole(None, {"teacher.name": "mobilenet,logits.npz", **PHOTOS}).views.count == 1
    with pytest.raises(Kd2MobileError, match="views.count: must be 1 with the teacher logits.npz"):
        whole(None, {"teacher.name": "mobilenet,logits.npz", "views.count": 4})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"teacher.name": "a,,b"},
            "settings, teacher.name: must be names with one comma between, got 'a,,b'. Correct it.",
        ),
        (
            {"teacher.name": "xception,xception"},
            "teacher.name: must be another teacher each, or one with another seed, got 'xception' twice. Leave it out",
        ),
        (
            {"teacher.name": ["a.keras", 3]},
            "settings, teacher 2, teacher.name: must be text, got 3.",
        ),
        ({"teacher.name": []}, "settings, teacher.name: must be text, got []."),
        (
            {"ensemble.mean": "geometric"},
            "ensemble.mean: must be left out with one teacher, got geometric. Leave it out, or give several: "
            "`--teacher xception,mobilenetv2`, or `--members 3`.",
        ),
        (
            {"teacher.name": "xception,mobilenet", "ensemble.members": 3},
            "ensemble.members: must be left out with several teachers, got 3. Leave it out, or give one teacher.",
        ),
        ({"ensemble.members": 1}, "settings, ensemble.members: must be"),
        (
            {"ensemble.members": 2, "teacher.seed": 2**32 - 1},
            "teacher.seed: must be at most 4,294,967,294 with 2 members, got 4294967295. Each member takes "
            "the next seed.",
        ),
        (
            {"ensemble.members": 3, "ensemble.keep_best": 4},
            "ensemble.keep_best: must be at most 3, the number of teachers, got 4. Leave it out to keep all.",
        ),
        (
            {"ensemble.members": 2, "ensemble.temperatures": [1.0, 2.0], "ensemble.fit_temperatures": True},
            "ensemble.temperatures: must be left out where the temperatures are fitted, got [1.0, 2.0]. Leave out one "
            "of the two.",
        ),
        (
            {"teacher.name": "xception,mobilenet", "ensemble.temperatures": [1.0]},
            "ensemble.temperatures: must be one temperature per teacher, 2 of them, or left out, got 1. Give one each, "
            "such as 1,2.",
        ),
        (
            {"teacher.name": "xception,mobilenet", "ensemble.temperatures": [1.0, 0.0]},
            "settings, ensemble.temperatures: must be a number from 0.01 to 10,000, got [1.0, 0.0]",
        ),
        ({"ensemble.mean": "median"}, "settings, ensemble.mean: must be one of arithmetic, geometric, got 'median'"),
    ],
)
def test_invalid_ensembles_are_refused(settings, message):
    with pytest.raises(Kd2MobileError) as caught:
        compose(settings=settings)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[teacher]]\nname = 'a.keras'\n[[teacher]]\nepochs = 0\n",
            "teacher 2, teacher.epochs: must be a whole number",
        ),
        ("[[teacher]]\nnam = 'a.keras'\n", "teacher 1, field of teacher: must be one of the 14 known names, got 'nam'"),
        ("teacher = [1]\n", "teacher 1, teacher: must be a table, got 1. Write its fields under [teacher]."),
        ("teacher = []\n", "teacher: must be a table, got []. Write its fields under [teacher]."),
    ],
)
def test_a_wrong_table_of_several_is_named_by_its_number(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(Kd2MobileError) as caught:
        compose(tmp_path / "r.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'r.toml'}, {message}")
