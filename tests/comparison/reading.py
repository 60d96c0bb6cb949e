"""What a comparison says, for tests to look at."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from zforcing_tf import comparison
from zforcing_tf.comparison import Section

ROOT = Path(__file__).resolve().parents[2]
MakeRun = Callable[..., str]


def sections(*paths: str, split: str = "test") -> list[Section]:
    return comparison.arrange([comparison.read(path, split) for path in paths], split)


def table(text: str, *, after: str = "run ") -> list[dict[str, str]]:
    """Rows by title of the text table whose first title is given; a title's second has a `'`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(after))
    titles: list[str] = []
    for title in re.split(r" {2,}", lines[start].strip()):
        titles.append(title + "'" * titles.count(title))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        cells = re.split(r" {2,}", line.strip())
        assert len(cells) == len(titles), line
        rows.append(dict(zip(titles, cells, strict=True)))
    return rows


def compare(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zforcing_tf.compare", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
