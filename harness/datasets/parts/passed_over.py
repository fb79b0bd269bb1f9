"""Files beside a data set that are not used: counted by kind and folder, so that none goes missing unseen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from harness.data_notes import passed_over_words
from harness.datasets.parts.image_files import is_hidden, require_no_broken_link

MOST_FOLDERS = 8        # that are named; what lies in others is counted together


def passed_over(folder: Path, used: Collection[Path], silent: Collection[Path] = ()) -> dict[str, int]:
    """Count the files in and below ``folder`` that are not ``used``, as {".heic": 20, ".png in more": 100}.

    What is hidden, left by a system (``__MACOSX``, ``Thumbs.db``), in the folders ``silent`` or in a folder of results
    is not counted. Raises InputError for a symbolic link that leads nowhere.
    """
    known, on_the_way = {*map(str, used)}, {str(folder), *(str(parent) for path in used for parent in path.parents)}
    quiet, found = {*map(str, silent)}, Counter()

    def look(place: str, unused: str | None) -> None:
        """Count what lies in ``place``; ``unused``: the outermost folder around it that holds nothing used."""
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if is_hidden(entry.name) or entry.path in quiet or entry.path in known:
                    continue
                require_no_broken_link(Path(entry.path))
                if not entry.is_dir():
                    found[unused, _kind(entry.name)] += 1
                elif entry.path in on_the_way:
                    look(entry.path, None)
                elif not entry.is_symlink() and not _holds_results(entry.path):     # links may lead in a circle
                    look(entry.path, unused or os.path.relpath(entry.path, folder))

    look(str(folder), None)
    return _by_folder(found)


def beside(folder: Path, used: Collection[Path] = ()) -> str:
    """ " (passed over: 20 files (20 .heic))" for a message that images are too few; "" where none is passed over."""
    words = passed_over_words(passed_over(folder, used))
    return words and f" ({words})"


def _kind(name: str) -> str:
    stem, suffix = os.path.splitext(name.lower())
    return (os.path.splitext(stem)[1] + suffix if suffix == ".gz" else suffix) or "without suffix"


def _holds_results(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "runs")) or os.path.isdir(os.path.join(folder, "cache", "data"))


def _by_folder(found: Counter[tuple[str | None, str]]) -> dict[str, int]:
    sizes = Counter()
    for (place, _), count in found.items():
        if place is not None:
            sizes[place] += count
    named, counts = {place for place, _ in sizes.most_common(MOST_FOLDERS)}, Counter()
    others = f"{len(sizes) - len(named)} other folders"
    for (place, kind), count in found.items():
        counts[kind if place is None else f"{kind} in {place if place in named else others}"] += count
    return dict(counts.most_common())
