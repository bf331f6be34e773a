"""The page's words in English and French, and numbers written as each language writes them.

Gradio translates the labels of its own components in the browser (`translations`); HTML that we render is
written on the server by `Words`, in the language that the visitor chose.
"""

from __future__ import annotations

import re

import gradio as gr
from gradio.i18n import I18nData

from rakuten_models.formatting import percent

LANGUAGES = ("en", "fr")

# key: (English, French). Names in braces are filled in by the caller, who escapes them for HTML.
_WORDS: dict[str, tuple[str, str]] = {
    # The head and the tabs.
    "title": ("Product classifier", "Classement de produits"),
    "subtitle": (
        "Describe a product, show it, or both: three models choose one of {count} shop categories and say how "
        "sure they are.",
        "Décrivez un produit, montrez-le, ou les deux : trois modèles choisissent l'un des {count} rayons et "
        "disent à quel point ils en sont sûrs.",
    ),
    "bundle": ("Bundle", "Modèles"),
    "language": ("Language", "Langue"),
    "tab_classify": ("Classify", "Classer"),
    "tab_catalog": ("Catalog", "Catalogue"),
    "tab_model": ("Model", "Modèle"),
    "tab_compare": ("Compare", "Comparer"),
    # One product.
    "designation": ("Designation", "Titre"),
    "designation_hint": ("The listing's title, in any language", "Le titre de l'annonce, en toute langue"),
    "description": ("Description", "Description"),
    "description_hint": ("The longer text, if there is one", "Le texte plus long, s'il y en a un"),
    "picture": ("Picture", "Photo"),
    "picture_alt": ("The product's picture", "La photo du produit"),
    "clear": ("Clear", "Effacer"),
    "classify": ("Classify", "Classer"),
    "examples": ("Examples", "Exemples"),
    "example_sofa": ("Sofa\nFrench", "Canapé\nfrançais"),
    "example_pool": ("Pool\npicture only", "Piscine\nphoto seule"),
    "example_controller": ("Controller\nEnglish", "Manette\nanglais"),
    "example_drill": ("Drill\nFrench text", "Perceuse\ntexte français"),
    "example_cushion": ("Cushion\nGerman text", "Coussin\ntexte allemand"),
    "example_dragons": ("Dragons\ndoubtful", "Dragons\ndouteux"),
    "empty_title": ("The answer appears here", "La réponse apparaît ici"),
    "empty_text": (
        "Type a designation, drop a picture, or try one of the examples.",
        "Saisissez un titre, déposez une photo, ou essayez un des exemples.",
    ),
    "crowded": (
        "Too many visitors wait at this moment; try again in a minute.",
        "Trop de visiteurs attendent en ce moment ; réessayez dans une minute.",
    ),
    "not_classified": (
        "This product could not be classified.",
        "Ce produit n'a pas pu être classé.",
    ),
    "text_only_note": (
        "This answer comes from the text alone.",
        "Cette réponse vient du texte seul.",
    ),
    "in_english": ("{sentence}", "En anglais : {sentence}"),
    "probability": ("probability", "probabilité"),
    "accept": ("Accept", "Accepter"),
    "review": ("Review", "À vérifier"),
    "no_level": (
        "This bundle has no level from which {precision} of answers are right; a person should look.",
        "Ces modèles n'ont pas de seuil à partir duquel {precision} des réponses sont justes ; à vérifier.",
    ),
    "reaches": (
        "Its probability reaches {level}, the level from which {precision} of answers were right on validation "
        "products.",
        "Sa probabilité atteint {level}, le seuil à partir duquel {precision} des réponses étaient justes sur "
        "les produits de validation.",
    ),
    "below": (
        "Its probability is below {level}, the level from which {precision} of answers were right on validation "
        "products; a person should look.",
        "Sa probabilité est sous {level}, le seuil à partir duquel {precision} des réponses étaient justes sur "
        "les produits de validation ; quelqu'un devrait vérifier.",
    ),
    "reaches_own": (
        "Its probability reaches {level}, the threshold that you set for this visit.",
        "Sa probabilité atteint {level}, le seuil que vous avez choisi pour cette visite.",
    ),
    "below_own": (
        "Its probability is below {level}, the threshold that you set for this visit; a person should look.",
        "Sa probabilité est sous {level}, le seuil que vous avez choisi pour cette visite ; à vérifier.",
    ),
    "three_models": ("The three models", "Les trois modèles"),
    "text": ("Text", "Texte"),
    "image": ("Picture", "Photo"),
    "fusion": ("Fusion", "Fusion"),
    "served": ("As served", "Comme servi"),
    "differs": ("differs", "diffère"),
    "no_text": ("No text given", "Pas de texte"),
    "no_picture": ("No picture given", "Pas de photo"),
    "not_readable": ("Not readable", "Illisible"),
    "needs_both": ("Needs text and picture", "Demande texte et photo"),
    "trust": (
        "How far fusion trusted each side for this product.",
        "La confiance de la fusion dans chaque côté, pour ce produit.",
    ),
    "trust_label": (
        "Fusion trusted the text {text} and the picture {image}",
        "La fusion s'est fiée à {text} au texte et à {image} à la photo",
    ),
    "probabilities": ("Probabilities", "Probabilités"),
    "probabilities_hint": (
        "Choose a category to see what speaks for and against it.",
        "Choisissez un rayon pour voir ce qui parle pour et contre lui.",
    ),
    "show_all": ("Show all {count} categories", "Voir les {count} rayons"),
    "show_first": ("Show the first {count} only", "Voir seulement les {count} premiers"),
    # Why.
    "why_title": ("Why {category}?", "Pourquoi {category} ?"),
    "why_words": ("Words", "Mots"),
    "why_for": ("speaks for it", "parle pour"),
    "why_against": ("speaks against it", "parle contre"),
    "why_exact": (
        "The sum of the words and a base of {base} is the text model's score for this category, {score}.",
        "La somme des mots et d'une base de {base} est la note du modèle de texte pour ce rayon, {score}.",
    ),
    "why_no_text": ("No text, so no words to show.", "Pas de texte, donc pas de mots à montrer."),
    "why_no_words": (
        "No word of this text moved the answer.",
        "Aucun mot de ce texte n'a pesé dans la réponse.",
    ),
    "why_most": ("For: {positive}. Against: {negative}.", "Pour : {positive}. Contre : {negative}."),
    "why_none": ("none", "aucun"),
    "why_picture": ("Picture", "Photo"),
    "why_heat_alt": (
        "The picture, coloured where it speaks for {category}",
        "La photo, colorée là où elle parle pour {category}",
    ),
    "why_heat": (
        "Blue where the picture speaks for this category, orange where it speaks against it.",
        "Bleu là où la photo parle pour ce rayon, orange là où elle parle contre.",
    ),
    "why_parts": (
        "Fusion's score for this category is {score}: {text} from the text, {image} from the picture.",
        "La note de la fusion pour ce rayon est {score} : {text} du texte, {image} de la photo.",
    ),
    "why_back": ("Back to the answer", "Revenir à la réponse"),
    # A whole catalog.
    "catalog_intro": (
        "Score a whole catalog: a CSV or Parquet file with one product a row, and a ZIP of its pictures if you "
        "have them. The rows come back untouched with category, probability, decision and the three best answers. "
        "Nobody else sees your files; they are deleted within two hours.",
        "Classez tout un catalogue : un fichier CSV ou Parquet, un produit par ligne, et un ZIP de ses photos si "
        "vous les avez. Les lignes reviennent intactes avec rayon, probabilité, décision et les trois meilleures "
        "réponses. Personne d'autre ne voit vos fichiers ; ils sont supprimés sous deux heures.",
    ),
    "catalog_file": ("Catalog (CSV or Parquet)", "Catalogue (CSV ou Parquet)"),
    "catalog_pictures": ("Pictures (ZIP, optional)", "Photos (ZIP, facultatif)"),
    "columns": ("Columns", "Colonnes"),
    "column_designation": ("Designation column", "Colonne du titre"),
    "column_description": ("Description column", "Colonne de la description"),
    "column_image": ("Picture column", "Colonne de la photo"),
    "column_label": ("Label column", "Colonne du vrai code"),
    "no_column": ("none", "aucune"),
    "columns_ready": (
        "Columns found: {columns}. Check which is which, then score.",
        "Colonnes trouvées : {columns}. Vérifiez leur rôle, puis lancez.",
    ),
    "score": ("Score the catalog", "Classer le catalogue"),
    "cancel": ("Cancel", "Annuler"),
    "download_scored": ("Download the scored file", "Télécharger le fichier classé"),
    "give_catalog": (
        "Give a catalog first: a CSV or Parquet file.",
        "Donnez d'abord un catalogue : un fichier CSV ou Parquet.",
    ),
    "give_column": (
        "Choose the column of the designation, of the description or of the picture; without one there is nothing "
        "to classify.",
        "Choisissez la colonne du titre, de la description ou de la photo ; sans elle, il n'y a rien à classer.",
    ),
    "file_unreadable": (
        "This file cannot be read: {sentence}",
        "Ce fichier n'a pas pu être lu : {sentence}",
    ),
    "catalog_failed": (
        "The catalog could not be scored: {sentence}",
        "Le catalogue n'a pas pu être classé : {sentence}",
    ),
    "too_busy": (
        "Another catalog of yours is being scored; wait for it or cancel it.",
        "Un autre de vos catalogues est en cours ; attendez-le ou annulez-le.",
    ),
    "starting": ("Reading the catalog …", "Lecture du catalogue …"),
    "progress": (
        "{done} of {total} rows, {rate} rows a second, {left} left",
        "{done} lignes sur {total}, {rate} lignes par seconde, encore {left}",
    ),
    "progress_open": (
        "{done} rows, {rate} rows a second",
        "{done} lignes, {rate} lignes par seconde",
    ),
    "cancelled": ("Cancelled; nothing was kept.", "Annulé ; rien n'a été gardé."),
    "seconds": ("{count} s", "{count} s"),
    "minutes": ("{count} min", "{count} min"),
    "scored_title": ("Products scored: {count}", "Produits classés : {count}"),
    "scored_time": (
        "in {seconds}, {rate} rows a second",
        "en {seconds}, {rate} lignes par seconde",
    ),
    "to_review": ("to review", "à vérifier"),
    "accepted": ("accepted", "acceptés"),
    "failed": ("not scored", "non classés"),
    "not_scored": ("Not scored", "Non classé"),
    "problem_rows": ("Rows with a problem", "Lignes avec un problème"),
    "row": ("Row", "Ligne"),
    "row_line": ("Row {row} (line {line} of the file)", "Ligne {row} du tableau (ligne {line} du fichier)"),
    "problem_row": ("{place}: {sentence}", "{place} : {sentence}"),
    "and_more": ("and {count} more", "et {count} autres"),
    "per_category": ("Products per category", "Produits par rayon"),
    "preview": ("First rows", "Premières lignes"),
    "category": ("Category", "Rayon"),
    "decision": ("Decision", "Décision"),
    "measured": ("Against the file's labels", "Face aux vrais codes du fichier"),
    "measured_unscored": (
        "With a label, but not scored: {count}; they count as wrong.",
        "Avec un code, mais non classées : {count} ; elles comptent comme fausses.",
    ),
    "measured_unlabelled": (
        "Without a label: {count}; they are not counted.",
        "Sans code : {count} ; elles ne comptent pas.",
    ),
    "measured_unknown": (
        "With a code that these models do not know ({examples}): {count}; they count as wrong.",
        "Avec un code que ces modèles ne connaissent pas ({examples}) : {count} ; elles comptent comme fausses.",
    ),
    "measured_unreadable": (
        "Labels that are no whole number ({examples}): {count}; they count as none.",
        "Codes qui ne sont pas des nombres entiers ({examples}) : {count} ; ils comptent comme absents.",
    ),
    "measured_rows": ("rows with a label", "lignes avec un code"),
    "review_title": ("Review the doubtful rows", "Vérifier les lignes douteuses"),
    "review_intro": (
        "The least certain rows first. Pick the right category where the answer is wrong, or confirm it; the "
        "download is a labels file that training reads.",
        "Les lignes les moins sûres d'abord. Choisissez le bon rayon là où la réponse est fausse, ou confirmez-la ; "
        "le fichier à télécharger se donne tel quel à l'entraînement.",
    ),
    "review_none": ("No row needs a review.", "Aucune ligne n'est à vérifier."),
    "review_page": ("Rows {first} to {last} of {count}", "Lignes {first} à {last} sur {count}"),
    "review_rest": (
        "Further rows to be reviewed: {count}; the scored file says which.",
        "Autres lignes à vérifier : {count} ; le fichier classé dit lesquelles.",
    ),
    "review_count": ("Rows reviewed: {count}", "Lignes vérifiées : {count}"),
    "review_pick": ("Right category of row {row}", "Bon rayon de la ligne {row}"),
    "review_choose": ("not reviewed", "non vérifiée"),
    "previous": ("Previous", "Précédent"),
    "next": ("Next", "Suivant"),
    "answer": ("Answer", "Réponse"),
    "right_category": ("Right category", "Bon rayon"),
    "product": ("Product", "Produit"),
    "download_corrections": ("Download the corrections", "Télécharger les corrections"),
    "no_corrections": (
        "No row has been reviewed yet; pick a category in the table first.",
        "Aucune ligne n'est encore vérifiée ; choisissez d'abord un rayon dans le tableau.",
    ),
    # The model and its figures.
    "loaded": ("What is loaded", "Ce qui est chargé"),
    "repository": ("Repository or folder", "Dépôt ou dossier"),
    "revision": ("Revision", "Révision"),
    "no_revision": ("none (a folder)", "aucune (un dossier)"),
    "date": ("Date of training", "Date d'entraînement"),
    "trained_on": ("Trained on", "Entraîné sur"),
    "measured_on": ("Measured on", "Mesuré sur"),
    "products_count": ("{count} products", "{count} produits"),
    "categories": ("Categories", "Rayons"),
    "unknown": ("not noted", "non noté"),
    "no_figures": (
        "This bundle holds no readable figures; run training.evaluate with --update-bundle to add them.",
        "Ces modèles n'ont pas de chiffres lisibles ; lancez training.evaluate avec --update-bundle.",
    ),
    "figures_of": ("Figures of", "Chiffres de"),
    "rows": ("Rows", "Lignes"),
    "accuracy": ("Accuracy", "Exactitude"),
    "weighted_f1": ("Weighted F1", "F1 pondéré"),
    "macro_f1": ("Macro F1", "F1 macro"),
    "top3": ("Top 3", "Top 3"),
    "ece": ("ECE", "ECE"),
    "f1_title": ("F1 by category", "F1 par rayon"),
    "f1_detail": (
        "precision {precision}, recall {recall}, {support} products",
        "précision {precision}, rappel {recall}, {support} produits",
    ),
    "reliability_title": ("Reliability", "Fiabilité"),
    "reliability_hint": (
        "Each dot is a fifteenth of the answers; on the line, an answer of 80% is right 80% of the time. Bars: "
        "where a perfectly calibrated model would be 95% of the time.",
        "Chaque point est un quinzième des réponses ; sur la ligne, une réponse à 80 % est juste 80 fois sur 100. "
        "Barres : où serait 95 % du temps un modèle parfaitement calibré.",
    ),
    "reliability_label": (
        "Reliability plot: expected calibration error {ece}",
        "Courbe de fiabilité : erreur de calibration attendue {ece}",
    ),
    "dot_title": (
        "{rows} answers of {confidence} on average, {accuracy} of them right",
        "{rows} réponses à {confidence} en moyenne, dont {accuracy} de justes",
    ),
    "named_probability": ("named probability", "probabilité annoncée"),
    "share_right": ("share right", "part de justes"),
    "precision_title": ("Precision against share accepted", "Précision selon la part acceptée"),
    "precision_hint": (
        "Move the threshold: answers below it go to a person. It holds for your visit, on every tab.",
        "Déplacez le seuil : les réponses en dessous vont à une personne. Il vaut pour votre visite, sur tous les "
        "onglets.",
    ),
    "precision_label": (
        "Precision against share accepted; at the chosen threshold {share} are accepted and {precision} of them "
        "are right",
        "Précision selon la part acceptée ; au seuil choisi, {share} sont acceptés, dont {precision} de justes",
    ),
    "share_accepted": ("share accepted", "part acceptée"),
    "precision": ("precision", "précision"),
    "threshold": ("Threshold for this visit", "Seuil pour cette visite"),
    "threshold_default": ("the bundle's own", "celui des modèles"),
    "threshold_yours": ("yours for this visit", "le vôtre pour cette visite"),
    "threshold_sentence": (
        "From {level} on ({whose}): {share} of the measured products are accepted, {precision} of those answers "
        "are right.",
        "À partir de {level} ({whose}) : {share} des produits mesurés sont acceptés, et {precision} de ces réponses "
        "sont justes.",
    ),
    "threshold_none": (
        "From {level} on ({whose}): nearly none of the measured products are accepted.",
        "À partir de {level} ({whose}) : presque aucun des produits mesurés n'est accepté.",
    ),
    "no_curve": (
        "This bundle's figures hold no such curve; the threshold still works.",
        "Les chiffres de ces modèles n'ont pas cette courbe ; le seuil marche quand même.",
    ),
    "confusion_title": ("Confusion matrix", "Matrice de confusion"),
    "confusion_hint": (
        "A row is the true category, a column the answer. Click a cell, or walk with the arrow keys and press "
        "Enter.",
        "Une ligne est le vrai rayon, une colonne la réponse. Cliquez sur une case, ou déplacez-vous avec les "
        "flèches puis Entrée.",
    ),
    "confusion_cell": (
        "true {truth}, answered {answer}: {count}",
        "vrai {truth}, répondu {answer} : {count}",
    ),
    "confusion_detail": (
        "{count} of {support} products of {truth} were answered {answer}.",
        "{count} des {support} produits de {truth} ont été classés en {answer}.",
    ),
    "confusion_back": (
        "The other way round: {count} of {support}.",
        "Dans l'autre sens : {count} sur {support}.",
    ),
    "confusion_right": (
        "{count} of {support} products of {truth} were answered rightly.",
        "{count} des {support} produits de {truth} ont été bien classés.",
    ),
    "confusion_none": ("Choose a cell to see the two categories.", "Choisissez une case pour voir les deux rayons."),
    # Two bundles on one product.
    "compare_intro": (
        "The product of the first tab, answered by two bundles.",
        "Le produit du premier onglet, classé par deux jeux de modèles.",
    ),
    "compare_empty": (
        "Describe a product on the first tab; both answers appear here.",
        "Décrivez un produit dans le premier onglet ; les deux réponses apparaissent ici.",
    ),
    "compare_same": ("Both choose the same category.", "Les deux choisissent le même rayon."),
    "compare_differ": ("They choose different categories.", "Ils choisissent des rayons différents."),
}  # fmt: skip

# Gradio's components that show a word of their own, translated in the browser.
_COMPONENT_KEYS = (
    "language", "tab_classify", "tab_catalog", "tab_model", "tab_compare", "designation", "designation_hint",
    "description", "description_hint", "picture", "picture_alt", "clear", "classify", "catalog_file",
    "catalog_pictures", "columns", "column_designation", "column_description", "column_image", "column_label",
    "score", "cancel", "download_scored", "previous", "next", "download_corrections", "figures_of", "served",
    "text", "image", "fusion", "threshold", "no_column", "example_sofa", "example_pool", "example_controller",
    "example_drill", "example_cushion", "example_dragons",
)  # fmt: skip

_I18N = gr.I18n()


class Translator:
    """The words in one language: `words("show_all", count=27)`.

    Attributes:
        language: "en" or "fr".
    """

    def __init__(self, language: str | None = "en") -> None:
        """Take a language, English where it is another than the two."""
        self.language = language if language in LANGUAGES else LANGUAGES[0]
        self._column = LANGUAGES.index(self.language)

    def __call__(self, key: str, **values: object) -> str:
        """The words under a key, with the values put into their places; plain text.

        Raises:
            KeyError: No such words.
        """
        text = _WORDS[key][self._column]
        if self.language == "fr":
            text = french_spaces(text)
        return text.format(**values) if values else text

    def quoted(self, name: str) -> str:
        """A name in quotation marks: “Pool” or « Piscine »."""
        return f"«\u00a0{name}\u00a0»" if self.language == "fr" else f"“{name}”"

    def percent(self, probability: float) -> str:
        """A probability for people: "94.2%" or "94,2 %"."""
        text = percent(probability)
        return text.replace(".", ",").replace("%", "\u00a0%") if self.language == "fr" else text

    def whole_percent(self, share: float) -> str:
        """A share without decimals: "62%" or "62 %"."""
        return f"{share:.0%}".replace("%", "\u00a0%") if self.language == "fr" else f"{share:.0%}"

    def number(self, value: float, decimals: int = 0, *, signed: bool = False) -> str:
        """A number with its thousands set apart: "2,789.5" or "2 789,5"."""
        text = f"{value:{'+' if signed else ''},.{decimals}f}"
        if self.language == "fr":
            text = text.replace(",", "\u00a0").replace(".", ",")
        return text

    def duration(self, seconds: float) -> str:
        """A time for people, in seconds below two minutes and in minutes above."""
        if seconds < 10:
            return self("seconds", count=self.number(seconds, 1))
        if seconds < 120:
            return self("seconds", count=self.number(seconds))
        return self("minutes", count=self.number(seconds / 60))


def french_spaces(text: str) -> str:
    """French sets a space before : ; ? and !, at which no line may break."""
    return re.sub(" (?=[:;?!])", "\u00a0", text)


def translations() -> dict[str, dict[str, str]]:
    """What `gradio.I18n` takes: the components' words by language, under our own prefix."""
    return {
        language: {f"app.{key}": _WORDS[key][column] for key in _COMPONENT_KEYS}
        for column, language in enumerate(LANGUAGES)
    }


def mark(key: str) -> I18nData:
    """Words of a component, translated by Gradio in the browser; the key is one of app_words."""
    return _I18N(f"app.{key}")
