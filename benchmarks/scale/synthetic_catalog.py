"""A catalog of the challenge's size, made from a smaller one: its cost is real, its quality means nothing.

Each row has a picture of the smaller catalog, enlarged to 500 x 500 pixels and linked under another name, and that
picture's category. Its texts are put together from the texts of that category: the first half of one designation and
the second half of another's, and the same with the descriptions.
"""

from __future__ import annotations

import csv
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.catalog import Catalog
from training.data.files import CHALLENGE_LABEL_FILE, CHALLENGE_TRAIN_FILE, IMAGE_FOLDERS

ROWS = 84_916

SIDE = 500


def write_full_catalog(source: Catalog, folder: Path, rows: int = ROWS, seed: int = 0) -> Path:
    """Write the catalog in the challenge's layout.

    Args:
        source: Has texts and pictures of every category that occurs.
        folder: Where to write; one that holds a whole catalog of so many rows is left as it is.
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
    table = source.table[source.table["prdtypecode"].notna()]
    texts = {
        code: (_halves(group["designation"]), _halves(group["description"]))
        for code, group in table[source.has_text[source.table["prdtypecode"].notna()]].groupby("prdtypecode")
    }
    pictures = table[(table["image"] != "") & table["prdtypecode"].isin(texts)]
    paths, codes = pictures["image"].tolist(), pictures["prdtypecode"].tolist()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: _enlarge(each[1], originals / f"{each[0]}.jpg"), enumerate(paths)))
    random = np.random.default_rng(seed)
    with (
        (folder / CHALLENGE_TRAIN_FILE).open("w", newline="", encoding="utf-8") as products,
        labels.with_suffix(".part").open("w", newline="", encoding="utf-8") as labelled,
    ):
        write_product, write_label = csv.writer(products).writerow, csv.writer(labelled).writerow
        write_product(["", "designation", "description", "productid", "imageid"])
        write_label(["", "prdtypecode"])
        for row in range(rows):
            # In turn, so that every picture occurs about as often.
            picture = row % len(paths)
            designation, description = (_recombined(halves, random) for halves in texts[codes[picture]])
            write_product([row, designation, description, 10_000_000 + row, 20_000_000 + row])
            write_label([row, codes[picture]])
            name = target / f"image_{20_000_000 + row}_product_{10_000_000 + row}.jpg"
            try:
                os.link(originals / f"{picture}.jpg", name)
            except OSError:  # a file system without hard links
                shutil.copyfile(originals / f"{picture}.jpg", name)
    # Last: a catalog with labels is a whole one.
    os.replace(labels.with_suffix(".part"), labels)
    return folder


def _halves(texts) -> tuple[list[str], list[str]]:
    """First halves and second halves of texts, by words."""
    words = [text.split(" ") for text in texts]
    return [" ".join(each[: (len(each) + 1) // 2]) for each in words], [
        " ".join(each[(len(each) + 1) // 2 :]) for each in words
    ]


def _recombined(halves: tuple[list[str], list[str]], random: np.random.Generator) -> str:
    first, second = halves
    return f"{first[random.integers(len(first))]} {second[random.integers(len(second))]}".strip()


def _enlarge(source: str, target: Path) -> None:
    with Image.open(source) as picture:
        picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(target, "JPEG", quality=85)
