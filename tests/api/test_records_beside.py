"""What `kd2mobile inspect` finds in the records beside a file."""

import json
from hashlib import sha256

import kd2mobile
from kd2mobile.inspection.inspect import FoundRecord
from kd2mobile.pages.terminal.inspect import inspect_text


def test_the_record_beside_it_and_in_its_run(models, tmp_path):
    content = (models / "uint8.tflite").read_bytes()
    digest = sha256(content).hexdigest()
    record = {"results": {"sha256": digest, "parity": {"n": 50, "agreement": 0.98}, "converter": "tensorflow 2"}}
    export, artifact = tmp_path / "run" / "export", tmp_path / "store" / "tflite" / f"{'f00d' * 4}"
    for folder in (export, artifact):
        folder.mkdir(parents=True)
        (folder / "m.tflite").write_bytes(content)
    (artifact / "record.json").write_text(json.dumps(record))
    made_with = {"kd2mobile": "", "python": "", "platform": "", "packages": {}}
    run = {"created": "", "store": "../store", "exported": [], "made_with": made_with}
    run["artifacts"] = {"student-fp32": f"../store/tflite/{artifact.name}"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    measured = {"role": "student", "sha256": digest, "top1": 0.5, "n": 10, "latency_ms": None, "device": "host"}
    (tmp_path / "run" / "benchmark.json").write_text(json.dumps([{"sha256": None}, measured]))
    place = str(artifact / "record.json")
    assert kd2mobile.inspect(artifact / "m.tflite").record == FoundRecord(place, record)
    found = kd2mobile.inspect(export / "m.tflite")
    assert found.record == FoundRecord(place, record) and found.benchmark.content == measured and not found.notes
    assert "98.00% of 50 images have the top-1 class of the" in inspect_text(found)
    assert "student: top-1 50.00% of 10 images" in inspect_text(found)
    other = export / "other.tflite"
    other.write_bytes((models / "logits.tflite").read_bytes())
    assert (kd2mobile.inspect(other).record, kd2mobile.inspect(other).benchmark) == (None, None)
    (artifact / "record.json").write_text("{")
    broken = kd2mobile.inspect(export / "m.tflite")
    assert broken.record is None and broken.notes[0].startswith(f"{place}: must be JSON in UTF-8")
