"""A scripted adb, put first on the PATH by the tests. The script is a JSON list of steps, each the exact arguments and
what adb then prints and returns. Any other call, or one out of turn, is noted and fails."""

import json
import os
import sys
from pathlib import Path


def main():
    """Plays the step that is due, or notes that the call is another."""
    script = Path(os.environ["KD2MOBILE_TEST_ADB"])
    done, steps = script.with_name("done"), json.loads(script.read_text("utf-8"))
    at = int(done.read_text()) if done.exists() else 0
    if at >= len(steps) or steps[at]["args"] != sys.argv[1:]:
        expected = steps[at]["args"] if at < len(steps) else "no further call"
        with open(script.with_name("wrong"), "a") as wrong:
            wrong.write(f"call {at}: {sys.argv[1:]}, expected {expected}\n")
        sys.exit("stand-in: an unexpected call")
    done.write_text(str(at + 1))
    sys.stdout.write(steps[at].get("out", ""))
    sys.stderr.write(steps[at].get("err", ""))
    sys.exit(steps[at].get("status", 0))


if __name__ == "__main__":
    main()
