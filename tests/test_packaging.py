"""What pyproject.toml, requirements.txt and the Makefile promise."""

import ast
import fnmatch
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import zforcing_tf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
SCRIPTS: dict[str, str] = PROJECT["project"]["scripts"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def lock() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(python: str) -> dict[str, str]:
    """Version of each package that the lock gives a Python on Linux."""
    found: dict[str, str] = {}
    for requirement in lock():
        environment = {"python_version": python, "platform_system": "Linux"}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", zforcing_tf.__version__)
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert SETUPTOOLS["dynamic"]["version"] == {"attr": "zforcing_tf.__version__"}
    source = (ROOT / "zforcing_tf" / "__init__.py").read_text()
    # A literal, so that a build reads it without importing the library.
    assert f'__version__ = "{zforcing_tf.__version__}"' in source


def test_what_people_read_names_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {zforcing_tf.__version__}\n" in citation
    assert zforcing_tf.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_each_folder_of_code_is_a_package_of_the_wheel() -> None:
    on_disk = set()
    for top in ("zforcing_tf", "export", "flags"):
        for file in (ROOT / top).rglob("*.py"):
            parts = file.parent.relative_to(ROOT).parts
            on_disk.add(".".join(parts if top == "zforcing_tf" else ("zforcing_tf", *parts)))
    assert sorted(on_disk) == sorted(SETUPTOOLS["packages"])


def test_each_package_is_where_the_build_looks_for_it() -> None:
    folders = SETUPTOOLS["package-dir"]
    for package in SETUPTOOLS["packages"]:
        place = folders.get(package, package.replace(".", "/"))
        assert (ROOT / place / "__init__.py").is_file(), place


def test_files_beside_the_code_are_packaged() -> None:
    data = SETUPTOOLS["package-data"]
    assert [(ROOT / "zforcing_tf" / name).is_file() for name in data["zforcing_tf"]] == [True]
    for file in (ROOT / "flags").iterdir():
        if file.suffix not in (".py", ".md", "") and file.is_file():
            assert any(fnmatch.fnmatch(file.name, p) for p in data["zforcing_tf.flags"]), file


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_start_without_tensorflow_and_explain_themselves(script: str) -> None:
    module, _, function = SCRIPTS[script].partition(":")
    assert function == "run"
    module = module.replace("zforcing_tf.export", "export")  # the name inside the repository
    code = f"import sys; sys.argv[0] = '/bin/{script}'; sys.argv.append('--help')\n"
    code += f"from {module} import run\n"
    code += "assert 'tensorflow' not in sys.modules\nrun()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script} [--flag=value ...]\n\n")
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    summary = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    assert summary and f"\n{summary}\n" in done.stdout


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_lies_within_the_ranges(python: str) -> None:
    pinned = pins(python)
    for text in PROJECT["project"]["dependencies"]:
        requirement = Requirement(text)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: {version}"


def test_each_line_of_the_lock_is_one_exact_version() -> None:
    for requirement in lock():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
    tools = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["dev"]]
    assert all(re.fullmatch(r"==[\w.]+", str(tool.specifier)) for tool in tools)


def test_the_lock_is_complete() -> None:
    pinned = pins(f"{sys.version_info[0]}.{sys.version_info[1]}")
    missing, seen = [], set()
    extras = PROJECT["project"]["optional-dependencies"]
    used = ("audio", "music", "serving")
    asked = [*PROJECT["project"]["dependencies"], *(text for e in used for text in extras[e])]
    todo = [("", Requirement(text)) for text in asked]
    while todo:
        asker, requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        version = pinned.get(name)
        if version is None or not requirement.specifier.contains(version):
            missing.append(f"{requirement} (for {asker}): {version}")
            continue
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = (Requirement(text) for text in metadata.requires(name) or ())
            environment = {"extra": extra}
            todo += [(name, r) for r in needs if not r.marker or r.marker.evaluate(environment)]
    assert missing == []
    assert {name for name, _ in seen} == set(pinned)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    unwanted = ("MAKE", "PYTHON")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    done = make("install", f"VENV={tmp_path}/venv", f"PYTHON={tmp_path}/python3")
    assert done.returncode != 0
    assert "error: Python 3.10, 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert "make PYTHON=/path/to/python3" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_install_that_fails_is_not_taken_for_done(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    fake = tmp_path / "python3"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n'
                    f"mkdir -p {venv}; echo no module named venv >&2; exit 1\n")  # fmt: skip
    fake.chmod(0o755)
    done = make("install", f"VENV={venv}", f"PYTHON={fake}")
    assert done.returncode != 0
    assert "no module named venv" in done.stderr
    assert list(venv.iterdir()) == []
    assert "Installing into" in make("-n", "install", f"VENV={venv}", f"PYTHON={fake}").stdout


def test_make_run_removes_only_what_it_made() -> None:
    commands = make("-n", "run").stdout.splitlines()
    commands = commands[[i for i, c in enumerate(commands) if "zforcing_tf.train" in c][0] :]
    removed = [word for line in commands for word in line.split() if line.startswith("rm ")]
    assert removed == ["rm", "-rf", "runs/digits_zforcing_aux/export"]
    exports = [line for line in commands if "-m export.saved_model" in line]
    assert [line.partition("--export_dir=")[2] for line in exports] == [removed[-1]]


def test_make_help_lists_each_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    listed = make("help").stdout
    for target in phony[1].split():
        assert target == "help" or f"make {target} " in listed
