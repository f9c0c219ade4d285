"""The wheel, installed elsewhere, is a working trainwatt."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the unpacked wheel and nothing else of ours."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_the_four_packages_and_no_tests(installed: Path) -> None:
    top = {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")}
    assert top == {"simulator", "hwmodels", "workloads", "analysis"}
    assert (installed / "hwmodels" / "devices" / "jetson-nano.toml").is_file()


def test_the_installed_command_prices_a_step_from_any_folder(installed: Path, tmp_path: Path) -> None:
    program = (
        "import simulator, sys; assert simulator.__file__.startswith(sys.argv[1]), simulator.__file__;"
        "from analysis.cli import cli; cli(sys.argv[2:], prog_name='trainwatt')"
    )
    command = [sys.executable, "-c", program, str(installed), "estimate", "lenet5", "-d", "jetson-nano", "--json", "-"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"trainwatt-estimate"' in done.stdout
