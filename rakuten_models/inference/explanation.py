"""Why a product got a category: the words and the regions of the picture that spoke for it and against it.

All of it comes from the models themselves, without a second model and without sampling. Logits mean something only
beside each other, so every score here is a *centred* logit: a category's logit less the mean over all categories. Above
0 speaks for the category, below 0 against it.

- Text: the text model is a sum of table rows, a rectifier and a linear layer; with the rectifier's on/off pattern as
  this text sets it, its logits are an exact sum over what was read. A word's contribution is that of its own row, half
  of each pair it is part of, and its characters' share of each n-gram. It says what the word added as the model was
  switched by this text, not what would happen without the word.
- Picture: the image model's logits are the mean of its category maps (Zhou et al. 2016, "Learning Deep Features for
  Discriminative Localization"): the heat map is the model's own, at the resolution of its last layer.
- Both: fusion adds both models' logarithms, each times a factor that depends on the product: its score is an exact sum
  of a text part and an image part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rakuten_models.errors import ExplanationError, Message, ProductError
from rakuten_models.inference.ensemble import ModelOutputs
from rakuten_models.inference.runtime import TEXT_INPUTS, TextModelRunner, centred_weights
from rakuten_models.inference.word_attribution import FIELDS, read_words
from rakuten_models.preprocessing.image import fit_image
from rakuten_models.preprocessing.text import clean_product
from rakuten_models.product import Category, Prediction, Product

# Blue and orange: told apart with any colour vision (Okabe and Ito 2008, "Color Universal Design").
FOR_COLOUR, AGAINST_COLOUR = (0, 114, 178), (230, 159, 0)

_HEAT_OPACITY, _HEAT_SIZE = 0.75, 448


@dataclass(frozen=True)
class WordContribution:
    """One word of the product's text and what it added.

    Attributes:
        field: "designation" or "description".
        start: Where it begins in the cleaned text.
        end: Where it ends.
        text: What stands there: `explanation.texts[field][start:end]`.
        contribution: In logits; above 0 speaks for the category, below 0 against it.
    """

    field: str
    start: int
    end: int
    text: str
    contribution: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a product got a category, or how far it is from one. All scores are centred logits.

    Attributes:
        prediction: What `ProductClassifier.predict` says of the product.
        category: The category that is explained.
        texts: The texts as the model reads them, by field: no HTML, no entities, single spaces; see `clean_text`.
        words: What the model read, in reading order (designation first), without overlaps; words past what the model
            reads are not listed. Empty without a text.
        base: What no word accounts for: the bias, and spaces. `base` and all contributions add up to `text_score`.
            None without a text.
        text_score: The text model's centred logit for the category; None without a text.
        heat_map: float32 (rows, columns), each region's contribution to the image model's centred logit: its mean is
            `image_score`. It lies over the picture as `read_image` fits it into a square. None without a picture.
        image_score: The image model's centred logit for the category; None without a picture.
        score: The centred logit of the model that answered: fusion for text and picture, else the only model's.
        text_part: What the text added to `score`; None without a text.
        image_part: What the picture added to `score`; None without a picture.
        picture: uint8 (height, width, 3), RGB, for `heat_map_image`; None without a picture.
    """

    prediction: Prediction
    category: Category
    texts: Mapping[str, str]
    words: tuple[WordContribution, ...]
    base: float | None
    text_score: float | None
    heat_map: np.ndarray | None
    image_score: float | None
    score: float
    text_part: float | None
    image_part: float | None
    picture: np.ndarray | None


def find_category(categories: Sequence[Category], prdtypecode: int) -> Category:
    """The category with a code; ExplanationError if there is none."""
    for category in categories:
        if category.prdtypecode == prdtypecode:
            return category
    known = ", ".join(str(category.prdtypecode) for category in categories[:5])
    more = f" and {len(categories) - 5} more" if len(categories) > 5 else ""
    raise ExplanationError("explanation.category_unknown", prdtypecode=f"{prdtypecode!r:.40}", known=known, more=more)


@dataclass(frozen=True, eq=False)
class Analysis:
    """One pass of the models over a product, which gives its prediction and the explanation of any category.

    Made by `ProductClassifier.analyze`.

    Attributes:
        product: The product.
        prediction: What `ProductClassifier.predict` says of it.
        outputs: The models' outputs, made for explanations.
        text_model: Answers each explanation of a text with one further run.
    """

    product: Product
    prediction: Prediction
    outputs: ModelOutputs
    text_model: TextModelRunner

    def explain(self, prdtypecode: int | None = None) -> Explanation:
        """Which words and which regions of the picture spoke for a category and which against it.

        If only the picture could not be read, the answer from the text is explained.

        Args:
            prdtypecode: The category to explain; None for the predicted one.

        Raises:
            ProductError: The product could not be scored.
            ExplanationError: There is no category with this code.
        """
        prediction, outputs = self.prediction, self.outputs
        category = prediction.category
        if category is None:
            raise ProductError(prediction.error or Message("product.empty"))
        if prdtypecode is not None:
            category = find_category(prediction.categories, prdtypecode)
        words: tuple[WordContribution, ...] = ()
        base = text_score = heat_map = image_score = picture = None
        cleaned, index = clean_product(self.product), category.index
        if outputs.text is not None:
            text_score = float(_centred(outputs.text["logits"][0])[index])
            words, base = _explain_text(cleaned, self.text_model, outputs.text, index)
        if outputs.image is not None:
            image_score = float(_centred(outputs.image["logits"][0])[index])
            heat_map = _centred(outputs.image["category_maps"][0])[:, :, index]
            picture = outputs.image["picture"][0]
        text_part, image_part = text_score, image_score
        if outputs.fusion is not None and outputs.text is not None and outputs.image is not None:
            fused, text, image = (each["logits"][0] for each in (outputs.fusion, outputs.text, outputs.image))
            text_part, image_part = _split_score(fused, text, image, index)
        return Explanation(
            prediction=prediction,
            category=category,
            texts=dict(zip(FIELDS, cleaned, strict=True)),
            words=words,
            base=base,
            text_score=text_score,
            heat_map=heat_map,
            image_score=image_score,
            score=(text_part or 0.0) + (image_part or 0.0),
            text_part=text_part,
            image_part=image_part,
            picture=picture,
        )


def _explain_text(
    cleaned: tuple[str, str], model: TextModelRunner, outputs: Mapping[str, np.ndarray], category_index: int
) -> tuple[tuple[WordContribution, ...], float]:
    """The words of one product and the base, from the text model's inputs and outputs."""
    encoded = {name: outputs[name] for name in TEXT_INPUTS}
    read = read_words(cleaned, model.tokenizer, model.settings, encoded)
    weights = centred_weights(category_index, outputs["logits"].shape[1])
    parts = model.contributions(encoded, outputs["features"], weights)
    contributions, unplaced = read.contributions(
        {"token_ids": parts["tokens"][0], "character_ids": parts["characters"][0]}
    )
    texts = dict(zip(FIELDS, cleaned, strict=True))
    words = tuple(
        WordContribution(field, start, end, texts[field][start:end], contribution)
        for (field, start, end), contribution in zip(read.spans, contributions.tolist(), strict=True)
    )
    return words, unplaced + float(parts["base"][0, 0])


def _centred(logits: np.ndarray) -> np.ndarray:
    """Logits (..., categories) less their mean over the categories."""
    centred: np.ndarray = logits - logits.mean(axis=-1, keepdims=True)
    return centred


def _split_score(fused: np.ndarray, text: np.ndarray, image: np.ndarray, category_index: int) -> tuple[float, float]:
    """The text's and the picture's part of the fusion model's centred logit of a category.

    Takes the three models' logits, float32 (categories,). Fusion adds both models' centred logits, each times one
    factor for the whole product, so two factors explain all categories at once and follow from its logits.
    """
    centred = np.stack([_centred(text), _centred(image)], axis=1).astype(np.float64)
    factors = np.linalg.lstsq(centred, _centred(fused.astype(np.float64)), rcond=None)[0]
    text_part, image_part = centred[category_index] * factors
    return float(text_part), float(image_part)


def highlight_segments(text: str, words: Sequence[WordContribution]) -> list[tuple[str, float | None]]:
    """Cut a text into marked and unmarked segments.

    Args:
        text: A cleaned designation or description.
        words: Those of an explanation that lie in this field, in reading order.

    Returns:
        (segment, contribution, or None where no word is); the segments together are the text.
    """
    segments: list[tuple[str, float | None]] = []
    position = 0
    for word in words:
        if word.start > position:
            segments.append((text[position : word.start], None))
        segments.append((text[word.start : word.end], word.contribution))
        position = word.end
    if position < len(text):
        segments.append((text[position:], None))
    return segments


def heat_map_image(picture: np.ndarray, heat_map: np.ndarray) -> Image.Image:
    """Draw a heat map over the picture in grey: blue spoke for the category, orange against it.

    Args:
        picture: uint8 (height, width, 3), RGB, from an explanation.
        heat_map: float32 (rows, columns), from the same.

    Returns:
        RGB, 448 x 448 pixels, the picture fitted into them as for the model.
    """
    # In grey, or the picture's own blue would look like heat.
    grey = Image.fromarray(fit_image(Image.fromarray(picture), _HEAT_SIZE)).convert("L").convert("RGB")
    values = heat_map.astype(np.float32) / max(float(np.abs(heat_map).max()), 1e-12)
    values = np.asarray(Image.fromarray(values).resize(grey.size, Image.Resampling.BILINEAR))[..., np.newaxis]
    opacity = np.abs(values) * _HEAT_OPACITY
    colour = np.where(values > 0, np.array(FOR_COLOUR, np.float32), np.array(AGAINST_COLOUR, np.float32))
    mixed = np.asarray(grey, np.float32) * (1 - opacity) + colour * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))
