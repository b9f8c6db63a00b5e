"""The example trains, and both curves are one."""

import os
import subprocess
import sys

EXAMPLE = os.path.join(os.path.dirname(__file__), "..", "examples", "convert.py")


def test_the_same_seed_gives_the_same_curve():
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "step  100" in done.stdout, done.stdout + done.stderr
