"""French for the sentences that rakuten_models says of a visitor's input, which arise in English.

A name in braces stands for what the sentence says of the case, and goes into the French as it is.
"""

from __future__ import annotations

import functools
import re

from rakuten_models.app.i18n.messages import Translator, french_spaces

UNEXPECTED = "Something went wrong with this input; change it and try again."

# (English, French); of several that fit, the first counts. {picture} is "The picture", with or without a name.
SENTENCES = (
    (UNEXPECTED, "Cette saisie n'a pas pu être traitée ; modifiez-la et réessayez."),
    # One product.
    (
        "The product holds no text and no picture; give a designation or a picture.",
        "Le produit n'a ni texte ni photo ; donnez un titre ou une photo.",
    ),
    (
        "The picture has {size} MB; upload one of at most {limit} MB.",
        "La photo fait {size} Mo ; envoyez-en une d'au plus {limit} Mo.",
    ),
    (
        "{picture} has {width} x {height} pixels, more than {limit} million; make it smaller.",
        "{picture} fait {width} x {height} pixels, plus de {limit} millions ; réduisez-la.",
    ),
    (
        "{picture} has more than {limit} million pixels; make it smaller.",
        "{picture} fait plus de {limit} millions de pixels ; réduisez-la.",
    ),
    (
        "{picture} cannot be read as a picture; give a JPEG, PNG, WebP or GIF file.",
        "{picture} n'est pas une image lisible ; donnez un fichier JPEG, PNG, WebP ou GIF.",
    ),
    (
        "{picture} is damaged or cut off ({reason}); save it again or choose another picture.",
        "{picture} est abîmée ou coupée ({reason}) ; enregistrez-la à nouveau ou choisissez-en une autre.",
    ),
    (
        "{picture} is empty (0 bytes); choose another picture.",
        "{picture} est vide (0 octet) ; choisissez-en une autre.",
    ),
    # What was uploaded.
    (
        "The {kind} is not here, or no longer; upload it again.",
        "Ce fichier n'est pas ici, ou n'y est plus ; envoyez-le à nouveau.",
    ),
    (
        "This message holds no file; upload the file and send what the upload answers.",
        "Ce message ne contient pas de fichier ; envoyez d'abord le fichier, puis ce que l'envoi a répondu.",
    ),
    (
        "The picture's data: address holds no picture; upload a JPEG, PNG, WebP or GIF file.",
        "L'adresse data: de la photo ne contient pas d'image ; envoyez un fichier JPEG, PNG, WebP ou GIF.",
    ),
    (
        "The app holds as many files as it may; try again in an hour, or send smaller ones.",
        "L'application ne peut garder plus de fichiers ; réessayez dans une heure, ou envoyez-en de plus petits.",
    ),
    # A catalog's file.
    (
        "{file} is no catalog; expected a .csv, .jsonl or .parquet file, a folder of them, or a glob.",
        "{file} n'est pas un catalogue ; donnez un fichier .csv, .jsonl ou .parquet.",
    ),
    (
        "{file} is empty; expected a header line and one line a product.",
        "{file} est vide ; il faut une ligne d'en-tête, puis une ligne par produit.",
    ),
    ("{file} is UTF-16 text; save it as UTF-8.", "{file} est du texte UTF-16 ; enregistrez-le en UTF-8."),
    (
        "{file}: the header cannot be read ({reason}); correct its quotation marks.",
        "{file} : l'en-tête est illisible ({reason}) ; corrigez ses guillemets.",
    ),
    (
        "{file} has {count} columns; at most {limit} can be read.",
        "{file} a {count} colonnes ; au plus {limit} peuvent être lues.",
    ),
    (
        "{file} has the column {name} twice; give every column a name of its own.",
        "{file} a deux fois la colonne {name} ; donnez à chaque colonne son propre nom.",
    ),
    (
        "{file} has a column twice; give every column a name of its own.",
        "{file} a deux fois la même colonne ; donnez à chaque colonne son propre nom.",
    ),
    (
        "{file} has a column {name}, which is taken; give it another name.",
        "{file} a une colonne {name}, un nom déjà pris ; renommez-la.",
    ),
    (
        "{file} ends its lines with carriage returns alone; save it with Unix line ends.",
        "{file} termine ses lignes par de seuls retours chariot ; enregistrez-le avec des fins de ligne Unix.",
    ),
    (
        "{file} is no readable Parquet file ({reason}); write it again.",
        "{file} n'est pas un fichier Parquet lisible ({reason}) ; écrivez-le à nouveau.",
    ),
    (
        "{file} holds no JSON objects; expected one object a line, one line a product.",
        "{file} ne contient pas d'objets JSON ; il en faut un par ligne, une ligne par produit.",
    ),
    (
        "{file} has more than {count} different keys; expected one object a product.",
        "{file} a plus de {count} clés différentes ; il faut un objet par produit.",
    ),
    (
        "{file} was changed while it was scored; score it again with another output.",
        "{file} a changé pendant le classement ; lancez-le à nouveau.",
    ),
    (
        "{file} cannot be read as a ZIP file ({reason}); pack the pictures again.",
        "{file} n'est pas un fichier ZIP lisible ({reason}) ; refaites l'archive des photos.",
    ),
    # Its columns.
    (
        "The catalog has no column {name} ({role}); it has: {columns}.",
        "Le catalogue n'a pas de colonne {name} ({role}) ; il a : {columns}.",
    ),
    (
        "No column holds a designation, a description or a picture; say which one does: {columns}.",
        "Aucune colonne ne contient un titre, une description ou une photo ; dites laquelle : {columns}.",
    ),
    (
        "No column says which of the pictures in {file} belongs to a row; name the column with the file names, or "
        "have imageid and productid.",
        "Aucune colonne ne dit quelle photo de {file} va avec une ligne ; choisissez la colonne des noms de "
        "fichiers, ou donnez imageid et productid.",
    ),
    (
        "The column {name} of {file} holds no prdtypecode (it is empty); name another column.",
        "La colonne {name} de {file} ne contient aucun prdtypecode ; choisissez-en une autre.",
    ),
    (
        "The column {name} of {file} holds no prdtypecode ({value} is no whole number); name another column.",
        "La colonne {name} de {file} ne contient aucun prdtypecode ; choisissez-en une autre.",
    ),
    # Its rows.
    (
        "Line {line} has {count} field where the header has {expected}; correct its commas and quotation marks.",
        "La ligne {line} du fichier a {count} champ alors que l'en-tête en a {expected} ; corrigez ses virgules et "
        "ses guillemets.",
    ),
    (
        "Line {line} has {count} fields where the header has {expected}; correct its commas and quotation marks.",
        "La ligne {line} du fichier a {count} champs alors que l'en-tête en a {expected} ; corrigez ses virgules et "
        "ses guillemets.",
    ),
    (
        "Line {line} has a quotation mark that is not closed, or that stands inside a quoted field; double it or "
        "take it out.",
        "La ligne {line} du fichier a un guillemet non fermé, ou au milieu d'un champ ; doublez-le ou retirez-le.",
    ),
    (
        "Line {line} has a carriage return outside quotation marks; take it out.",
        "La ligne {line} du fichier a un retour chariot hors des guillemets ; retirez-le.",
    ),
    (
        "Line {line} holds the byte 0x{byte}, which is no UTF-8; save the file as UTF-8.",
        "La ligne {line} du fichier contient l'octet 0x{byte}, qui n'est pas de l'UTF-8 ; enregistrez-le en UTF-8.",
    ),
    (
        "Line {line} holds a NUL character; remove it.",
        "La ligne {line} du fichier contient un caractère NUL ; retirez-le.",
    ),
    (
        "Line {line} is longer than {limit} MB; shorten its texts.",
        "La ligne {line} du fichier dépasse {limit} Mo ; raccourcissez ses textes.",
    ),
    (
        "Line {line} is no JSON ({reason}); expected one object a line.",
        "La ligne {line} du fichier n'est pas du JSON ({reason}) ; il faut un objet par ligne.",
    ),
    (
        "Line {line} holds a {kind}; expected one object a line.",
        "La ligne {line} du fichier contient autre chose ({kind}) qu'un objet JSON ; il en faut un par ligne.",
    ),
    (
        "Line {line} holds half of a surrogate pair (\\ud800 to \\udfff); correct the text.",
        "La ligne {line} du fichier contient un demi-caractère (\\ud800 à \\udfff) ; corrigez le texte.",
    ),
    (
        "The row has no text, and no pictures were given; give the images folder or ZIP file.",
        "La ligne n'a pas de texte, et aucune photo n'a été envoyée ; ajoutez le ZIP des photos.",
    ),
    (
        "The picture {name} has more than {limit} MB; make it smaller.",
        "La photo {name} dépasse {limit} Mo ; réduisez-la.",
    ),
    (
        "The picture {name} is not in the ZIP file; check the name.",
        "La photo {name} n'est pas dans le ZIP ; vérifiez son nom.",
    ),
    (
        "The picture {name} is a URL; download the pictures and give their folder.",
        "La photo {name} est une adresse web ; téléchargez les photos et envoyez-les dans un ZIP.",
    ),
    (
        "The picture {name} leads out of the images folder; give a path within it.",
        "La photo {name} sort du dossier des photos ; donnez un chemin à l'intérieur.",
    ),
    (
        "The picture {name} cannot be read from the ZIP file ({reason}); pack it again.",
        "La photo {name} est illisible dans le ZIP ({reason}) ; refaites l'archive.",
    ),
)


def translate_error(sentence: str, words: Translator) -> str:
    """A sentence of rakuten_models in the visitor's language; one without a translation says that it is English."""
    if words.language == "en":
        return sentence
    for pattern, french in _patterns():
        found = pattern.fullmatch(sentence)
        if found:
            values = {
                name: re.sub(r"^(\d+)\.(\d+)$", r"\1,\2", value) for name, value in found.groupdict().items()
            }
            if "picture" in values:
                values["picture"] = "La photo" + values["picture"].removeprefix("The picture")
            return french_spaces(french).format(**values)
    return words("in_english", sentence=sentence)


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    def pattern(english: str) -> re.Pattern[str]:
        parts = re.split(r"{(\w+)}", english)
        for place in range(1, len(parts), 2):
            name = parts[place]
            parts[place] = f"(?P<{name}>{'The picture(?: .+)?' if name == 'picture' else '.+'})"
        return re.compile(
            "".join(part if place % 2 else re.escape(part) for place, part in enumerate(parts)), re.DOTALL
        )

    return tuple((pattern(english), french) for english, french in SENTENCES)
