"""LiteRT.js is where npm put it, of the version in the lock, or the error says how it gets there."""

import json
import re
import shutil
from pathlib import Path

import pytest

from kd2mobile.cli import doctor
from kd2mobile.errors import InstallationError
from kd2mobile.measure.browser import litert_js

WEB = Path(__file__).parents[3] / "export" / "web"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As if the package were installed: its folder of npm's lock, and an empty cache. Returns the cache's folder."""
    package = tmp_path / "package"
    package.mkdir()
    for name in litert_js.LOCK:
        shutil.copy(WEB / name, package)
    monkeypatch.setattr(litert_js, "web_folder", lambda: package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "kd2mobile" / "litert.js"


def put(parent, version):
    for name in litert_js.PACKAGES:
        folder = parent / "node_modules" / name
        (folder / "wasm").mkdir(parents=True, exist_ok=True)
        (folder / "wasm" / "it.wasm").write_text("bytes")
        (folder / "package.json").write_text(json.dumps({"version": version}))


def test_in_a_checkout_it_lies_beside_the_classifier():
    assert litert_js.web_folder() == litert_js.home() == WEB and (WEB / "classifier.js").is_file()
    assert litert_js.npm_command() == f"npm ci --prefix {WEB}"


def test_the_lock_has_hashes_and_no_addresses():
    text = (WEB / "package-lock.json").read_text("utf-8")
    packages = [one for path, one in json.loads(text)["packages"].items() if path]
    assert len(packages) >= 2 and all(one["integrity"].startswith("sha512-") for one in packages)
    assert "://" not in text and "resolved" not in text
    assert json.loads((WEB / "package.json").read_text("utf-8"))["dependencies"] == {
        "@litertjs/core": litert_js.locked_version()
    }
    assert "omit-lockfile-registry-resolved=true" in (WEB / ".npmrc").read_text("utf-8").splitlines()


def test_where_it_is_missing_the_error_names_the_command_and_the_lock_is_there(installed):
    with pytest.raises(InstallationError) as missing:
        litert_js.litert_js()
    expected = litert_js.locked_version()
    assert str(missing.value) == (
        f"--device browser: must find LiteRT.js {expected}, got none in {installed}. "
        f"Install it with `npm ci --prefix '{installed}'`; npm comes with Node.js."
    )
    assert (installed / "package-lock.json").read_bytes() == (WEB / "package-lock.json").read_bytes()


def test_another_version_is_not_taken_and_the_locked_one_is(installed):
    put(installed, "0.0.1")
    with pytest.raises(InstallationError, match=r"must find LiteRT.js \d+\.\d+\.\d+, got 0.0.1 in "):
        litert_js.litert_js()
    put(installed, litert_js.locked_version())
    version, files = litert_js.litert_js()
    assert version == litert_js.locked_version()
    assert sorted(files) == ["@litertjs/core/wasm/it.wasm", "@litertjs/wasm-utils/wasm/it.wasm"]
    shutil.rmtree(installed / "node_modules" / "@litertjs" / "wasm-utils")
    with pytest.raises(InstallationError, match="got none in "):
        litert_js.litert_js()


def test_the_doctor_reports_whether_it_is_installed(installed, monkeypatch):
    missing = doctor._litert_js()
    assert (missing.status, missing.fix) == ("not needed", f"`npm ci --prefix '{installed}'`")
    put(installed, litert_js.locked_version())
    there = doctor._litert_js()
    assert there.status == "ok" and re.match(r"\d+\.\d+\.\d+ in ", there.found) and not there.fix
    (installed.parent.parent / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(installed.parent.parent / "file"))
    assert doctor._litert_js().fix.startswith("Set XDG_CACHE_HOME to a writable folder (Not a directory)")
