"""A tiny real catalog for the tests: every text and every picture in it is made here.

`write_tiny_catalog` writes products of 27 invented shelves (under the 27 Rakuten codes) as the challenge's
own layout, as a CSV file or as a Parquet file. A category has its own words in French, English and German,
and its own shape and colour, so that the smallest models can learn something from either side; each row
differs enough from the next that no two of them are near-duplicates. The rows of a category run through
ROW_KINDS, so that 8 rows show every kind once.
"""

import csv
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
from PIL import Image, ImageDraw

# What a row of a category has: the kinds repeat after eight rows.
ROW_KINDS = (
    "both",
    "no_image",
    "both",
    "silver",  # a text and a picture, and a label that is not the catalog's own
    "no_description",
    "image_only",
    "entities",  # both, the text written with HTML entities and tags
    "no_designation",
)

# prdtypecode: words in French, English, German.
CATEGORY_WORDS = {
    10: (
        "livre occasion roman broché auteur",
        "novel paperback secondhand author chapter",
        "Roman Taschenbuch gebraucht",
    ),
    40: ("jeu console importé cartouche japon", "imported game cartridge japan console", "Importspiel Konsole Modul"),
    50: (
        "manette accessoire volant chargeur joueur",
        "gamepad controller charger headset gamer",
        "Lenkrad Ladegerät Spieler",
    ),
    60: ("rétro console portable écran poche", "handheld retro machine pocket screen", "Handgerät Retro Bildschirm"),
    1140: (
        "figurine héros résine collection statuette",
        "figure hero resin statue collectible",
        "Sammelfigur Harz Held",
    ),
    1160: ("carte rare booster foil dragon", "trading card booster foil dragon", "Sammelkarte Hologramm Drache"),
    1180: ("maquette armée dés guerre donjon", "wargame dice dungeon army terrain", "Würfel Verlies Armee"),
    1280: ("peluche jouet poupée enfant doudou", "plush toy doll child rattle", "Plüschtier Puppe Kinder"),
    1281: ("plateau pions société puzzle famille", "board pawns puzzle family quiz", "Brettspiel Familie Rätsel"),
    1300: (
        "drone hélice radiocommandé modèle batterie",
        "drone propeller remote model battery",
        "Drohne Propeller Modellbau",
    ),
    1301: (
        "chaussettes bébé billard fléchettes coton",
        "socks darts billiards cotton baby",
        "Socken Dartpfeile Baumwolle",
    ),
    1302: (
        "trottinette balançoire ballon plein trampoline",
        "scooter swing ball outdoor trampoline",
        "Roller Schaukel Draußen",
    ),
    1320: (
        "poussette biberon couche tétine nourrisson",
        "stroller bottle diaper pacifier infant",
        "Kinderwagen Windel Schnuller",
    ),
    1560: ("canapé armoire chaise bois salon", "sofa wardrobe chair wooden lounge", "Schrank Stuhl Wohnzimmer"),
    1920: ("coussin drap couette oreiller linge", "cushion sheet duvet pillow linen", "Kissen Bettwäsche Decke"),
    1940: ("chocolat thé biscuit sirop épice", "chocolate tea biscuit syrup spice", "Schokolade Tee Gewürz"),
    2060: ("guirlande vase bougie horloge tableau", "garland vase candle clock poster", "Girlande Kerze Wanduhr"),
    2220: ("chien collier chat litière laisse", "dog collar cat litter leash", "Hund Halsband Katze"),
    2280: (
        "magazine hebdomadaire numéro gazette presse",
        "weekly magazine issue gazette press",
        "Zeitschrift Wochenblatt Ausgabe",
    ),
    2403: ("lot tomes manga bandes intégrale", "bundle volumes manga comics series", "Sammlung Bände Comics"),
    2462: ("lot consoles jeux occasion disques", "used consoles games discs set", "Konsolenpaket Spiele Scheiben"),
    2522: ("cahier stylo papier encre agenda", "notebook pen paper ink planner", "Notizbuch Stift Tinte"),
    2582: (
        "parasol tonnelle hamac jardin terrasse",
        "parasol gazebo hammock garden patio",
        "Sonnenschirm Hängematte Garten",
    ),
    2583: ("piscine pompe filtre chlore bâche", "pool pump filter chlorine cover", "Schwimmbad Pumpe Chlor"),
    2585: ("perceuse marteau tondeuse outil scie", "drill hammer mower tool saw", "Bohrmaschine Werkzeug Säge"),
    2705: (
        "neuf essai histoire philosophie édition",
        "new essay history philosophy edition",
        "Sachbuch Geschichte Philosophie",
    ),
    2905: (
        "téléchargement clé licence virtuel numérique",
        "download key licence virtual digital",
        "Download Schlüssel Lizenz",
    ),
}

# Words that any product may carry, in French, English, German.
FILLERS = (
    "élégant pratique solide léger coloré ancien moderne compact original fragile réglable étanche "
    "brillant discret artisanal durable souple rapide mat complet",
    "elegant handy sturdy light colourful antique modern compact original fragile adjustable waterproof "
    "shiny discreet handmade lasting flexible quick matte complete",
    "elegant praktisch stabil leicht bunt alt modern kompakt original zerbrechlich verstellbar "
    "wasserdicht glänzend dezent handgemacht haltbar biegsam schnell matt vollständig",
)

SENTENCES = (
    "Un produit {0}, {1} et {2} : {3} pour toute la maison. Taille {4} cm, référence {5}.",
    "This is a {0}, {1} and {2} product: {3} for every home. Size {4} cm, reference {5}.",
    "Ein Produkt, {0}, {1} und {2}: {3} für jedes Haus. Größe {4} cm, Nummer {5}.",
)

SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross", "bars", "star", "half")


def write_tiny_catalog(
    folder: str | Path,
    *,
    categories: int = 27,
    rows_per_category: int = 8,
    seed: int = 0,
    layout: str = "challenge",
    labels: bool = True,
    unreadable_image: bool = False,
) -> Path:
    """Writes a tiny catalog; the same arguments write the same catalog.

    Args:
        folder: Where to write; made if absent.
        categories: How many categories, 1 to 27: the first so many Rakuten codes.
        rows_per_category: Rows of each category; they run through ROW_KINDS.
        seed: Another seed writes other products of the same categories.
        layout: "challenge" (X_train_update.csv and its companions), "csv" or "parquet" (one file).
        labels: False leaves out the labels (Y_train_CVw08PX.csv, or the columns prdtypecode and
            label_origin).
        unreadable_image: True makes the first picture a file that is no picture.

    Returns:
        What to hand to `read_catalog`: the folder ("challenge") or the file in it ("csv", "parquet").
    """
    folder = Path(folder)
    picture_folder = folder / ("images/image_train" if layout == "challenge" else "pictures")
    picture_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(rows_per_category):  # categories alternate, as in a real catalog
        for category, code in enumerate(list(CATEGORY_WORDS)[:categories]):
            generator = np.random.default_rng([seed, code, number])
            row = _row(code, ROW_KINDS[number % len(ROW_KINDS)], generator)
            row["productid"], row["imageid"] = 1000 + len(rows), 5000 + len(rows)
            row["image"] = f"image_{row['imageid']}_product_{row['productid']}.jpg" if row["has_image"] else ""
            if row["image"]:
                path = picture_folder / row["image"]
                draw_picture(category, generator).save(path, quality=85)
            rows.append(row)
    if unreadable_image:
        (picture_folder / next(row["image"] for row in rows if row["image"])).write_bytes(b"this is no picture")
    table = pandas.DataFrame(rows)
    if layout == "challenge":
        return _write_challenge_layout(folder, table, labels)
    table["image"] = [f"pictures/{name}" if name else "" for name in table["image"]]
    table = table[["designation", "description", "image"] + (["prdtypecode", "label_origin"] if labels else [])]
    path = folder / f"catalog.{layout}"
    if layout == "csv":
        table.to_csv(path, index=False)
    elif layout == "parquet":
        table.to_parquet(path, index=False)
    else:
        raise ValueError(f"layout is {layout!r}; it is one of challenge, csv, parquet")
    return path


def draw_picture(category: int, generator: np.random.Generator, size: int = 96) -> Image.Image:
    """Draws one product: the category's shape in the category's colour on a cloudy background.

    Args:
        category: Number of the category, from 0: it sets shape and hue.
        generator: Sets position, size, tint and background. The background's clouds are strong enough that
            the perceptual hashes of two pictures of one category lie far apart.
        size: Longer side in pixels.

    Returns:
        An RGB picture, size by size or size by 3/4 size.
    """
    clouds = generator.integers(150, 256, (6, 6), dtype=np.uint8)
    picture = Image.fromarray(clouds).resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
    hue = int(category * 255 / 27 + generator.integers(-3, 4)) % 256
    colour = Image.new("HSV", (1, 1), (hue, 230, int(generator.integers(130, 230)))).convert("RGB").getpixel((0, 0))
    radius = size * generator.uniform(0.22, 0.34)
    x, y = generator.uniform(radius, size - radius, 2)
    _draw_shape(ImageDraw.Draw(picture), SHAPES[category % len(SHAPES)], x, y, radius, colour)
    if generator.random() < 0.3:
        picture = picture.resize((size, size * 3 // 4))
    return picture


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    thickness = radius / 2.5
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=int(thickness))
    elif shape == "half":
        draw.pieslice(box, 0, 180, fill=colour)
    elif shape == "cross":
        draw.rectangle((x - radius, y - thickness / 2, x + radius, y + thickness / 2), fill=colour)
        draw.rectangle((x - thickness / 2, y - radius, x + thickness / 2, y + radius), fill=colour)
    elif shape == "bars":
        for left in np.linspace(x - radius, x + radius - thickness / 2, 3):
            draw.rectangle((left, y - radius, left + thickness / 2, y + radius), fill=colour)
    else:
        corners = {"triangle": 3, "diamond": 4, "star": 10}[shape]
        angles = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
        lengths = radius * (np.where(np.arange(corners) % 2, 0.4, 1.0) if shape == "star" else np.ones(corners))
        draw.polygon(list(zip(x + lengths * np.cos(angles), y + lengths * np.sin(angles), strict=True)), fill=colour)


def _row(code: int, kind: str, generator: np.random.Generator) -> dict:
    language = int(generator.choice(3, p=[0.6, 0.25, 0.15]))
    words = CATEGORY_WORDS[code][language].split()
    fillers = FILLERS[language].split()
    designation = _sentence_case(
        [*generator.choice(words, 2, replace=False), *generator.choice(fillers, 2, replace=False)]
    )
    designation += f" {generator.integers(100, 1000)}"
    description = SENTENCES[language].format(
        *generator.choice(fillers, 3, replace=False),
        " ".join(generator.permutation(words)[:3]),
        generator.integers(5, 200),
        "".join(generator.choice(list("ABCDEFGHKLMNPRSTUVWXZ"), 6)),
    )
    if kind == "entities":
        description = (
            html.escape(f"<p>{description}</p><br/>d'occasion & «neuf»").replace("é", "&eacute;").replace("'", "&#39;")
        )
        designation = designation.replace("é", "&amp;eacute;")  # escaped twice, as shops do
    if kind == "silver":
        designation, description = f"{designation} {description}".lower(), ""
    if kind in ("no_description", "image_only"):
        description = ""
    if kind in ("no_designation", "image_only"):
        designation = ""
    return {
        "designation": designation,
        "description": description,
        "prdtypecode": code,
        "label_origin": "silver" if kind == "silver" else "gold",
        "has_image": kind != "no_image",
    }


def _sentence_case(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _write_challenge_layout(folder: Path, table: pandas.DataFrame, labels: bool) -> Path:
    table[["designation", "description", "productid", "imageid"]].to_csv(folder / "X_train_update.csv")
    if labels:
        table[["prdtypecode"]].to_csv(folder / "Y_train_CVw08PX.csv")
        table[["label_origin"]].to_csv(
            folder / "origin.csv", header=["origin"], index_label="index", quoting=csv.QUOTE_MINIMAL
        )
    return folder
