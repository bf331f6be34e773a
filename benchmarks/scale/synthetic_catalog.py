"""A catalog of the challenge's size, made from a smaller one: its cost is real, its quality means nothing.

Each row has a picture of the smaller catalog, enlarged to 500 x 500 pixels and linked under another name, and that
picture's category. Its texts are put together from the texts of that category: the first half of one designation and
the second half of another's, and the same with the descriptions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from benchmarks.synthetic_data import PHOTO_SIDE
from rakuten_models.files import write_atomically
from training.data.catalog import Catalog
from training.data.files import CHALLENGE_LABEL_FILE, CHALLENGE_TRAIN_FILE, IMAGE_FOLDERS

ROWS = 84_916


def write_full_catalog(source: Catalog, folder: Path, rows: int = ROWS, seed: int = 0) -> Path:
    """Write the catalog in the challenge's layout; a whole one of so many rows that is there is left as it is.

    Args:
        source: Has texts and pictures of every category that occurs.
        folder: Where to write.
        rows: How many.
        seed: Of what is drawn.

    Returns:
        The folder.
    """
    labels = folder / CHALLENGE_LABEL_FILE
    if labels.is_file() and sum(1 for _ in labels.open()) == rows + 1:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    originals, target = folder / "originals", folder / IMAGE_FOLDERS[CHALLENGE_TRAIN_FILE]
    originals.mkdir(parents=True)
    target.mkdir(parents=True)
    labelled = source.table["prdtypecode"].notna()
    texts = {
        code: [_halves(group["designation"]), _halves(group["description"])]
        for code, group in source.table[labelled & source.has_text].groupby("prdtypecode")
    }
    pictures = source.table[(source.table["image"] != "") & source.table["prdtypecode"].isin(texts)]
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda each: _enlarge(each[1], originals / f"{each[0]}.jpg"), enumerate(pictures["image"])
            )
        )
    random = np.random.default_rng(seed)
    # In turn, so that every picture occurs about as often.
    numbers = np.arange(rows) % len(pictures)
    codes = pictures["prdtypecode"].to_numpy()[numbers]
    table = pandas.DataFrame(
        [[_recombined(halves, random) for halves in texts[code]] for code in codes],
        columns=["designation", "description"],
    )
    table = table.assign(productid=10_000_000 + table.index, imageid=20_000_000 + table.index)
    table.to_csv(folder / CHALLENGE_TRAIN_FILE)
    for row, number in enumerate(numbers):
        name = target / f"image_{20_000_000 + row}_product_{10_000_000 + row}.jpg"
        try:
            os.link(originals / f"{number}.jpg", name)
        except OSError:  # a file system without hard links
            shutil.copyfile(originals / f"{number}.jpg", name)
    # Last: a catalog with labels is a whole one.
    write_atomically(labels, pandas.DataFrame({"prdtypecode": codes}).to_csv())
    return folder


def _halves(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """First halves and second halves of texts, by words."""
    halves = [np.array_split(text.split(" "), 2) for text in texts]
    return [" ".join(first) for first, _ in halves], [" ".join(second) for _, second in halves]


def _recombined(halves: tuple[list[str], list[str]], random: np.random.Generator) -> str:
    first, second = halves
    return f"{first[random.integers(len(first))]} {second[random.integers(len(second))]}".strip()


def _enlarge(source: str, target: Path) -> None:
    with Image.open(source) as picture:
        square = picture.convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC)
        square.save(target, "JPEG", quality=85)
