"""The products to try with one click, and the page's style file."""

from __future__ import annotations

from pathlib import Path

STYLE_FILE = Path(__file__).parent / "page.css"

EXAMPLES_FOLDER = Path(__file__).parent / "examples"

# On the buttons of the examples without a picture.
TEXT_PICTURE = "text.svg"

# The words on a button, and the designation, description and picture it fills in.
EXAMPLES = (
    (
        "example_sofa",
        "Canapé d'angle 5 places en tissu gris avec méridienne",
        "Structure en bois massif, assises en mousse haute densité. Dimensions 240 x 160 x 85 cm.",
        "sofa.jpg",
    ),
    ("example_pool", "", "", "pool.jpg"),
    (
        "example_controller",
        "Wireless controller for console and PC, dual vibration, black",
        "20 hours of battery life, headset jack, USB-C charging cable included.",
        "controller.jpg",
    ),
    (
        "example_drill",
        "Perceuse visseuse sans fil 18 V avec 2 batteries et mallette",
        "Mandrin 13 mm, 2 vitesses, éclairage LED. Livrée avec 30 embouts et forets.",
        None,
    ),
    (
        "example_cushion",
        "Kissenbezug 45 x 45 cm, Kissenhülle für Sofa",
        "Weicher Stoff mit Reißverschluss, waschbar.",
        None,
    ),
    ("example_dragons", "Coffret Dragons", "Très bon état.", "book.jpg"),
)
