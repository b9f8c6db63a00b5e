"""What py.typed promises: types, of the package and of its extension module, that are so."""

import os
import subprocess
import sys
from pathlib import Path

import torch

import typical_uses

TESTS = Path(__file__).parent


def check(folder, *arguments):
    # Not from the checkout, whose folders mypy would take for packages.
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_and_typical_uses(tmp_path):
    settings = ["--config-file", TESTS.parents[1] / "pyproject.toml", "--cache-dir", tmp_path / "cache"]
    check(tmp_path, "mypy", *settings, "-p", "tidegate", "-m", "typical_uses")


def test_the_extension_module_is_as_its_stub_says(tmp_path):
    # It compares names, kinds and defaults; PyTorch's types, which take time to read, are not needed for that.
    settings = tmp_path / "settings.ini"
    settings.write_text("[mypy]\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n")
    check(tmp_path, "mypy.stubtest", "tidegate._core", "--mypy-config-file", settings)


def test_values_are_of_the_types_that_mypy_was_told(tmp_path):
    torch.save(torch.nn.LSTM(3, 5).state_dict(), tmp_path / "model.pt")
    typical_uses.lstm()
    typical_uses.gru_and_rnn()
    typical_uses.cells()
    typical_uses.models()
    typical_uses.files(str(tmp_path / "model.pt"))
