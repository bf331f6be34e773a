"""The choices of a training run, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from rakuten_models.errors import CatalogError
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings

# "plain" is what serving sees and always comes first.
AUGMENTATIONS = ("plain", "mirrored", "closer", "closer mirrored")
KINDS = ("grouped", "plain")


@dataclass(frozen=True)
class FusionSettings:
    """How the fusion model is fitted.

    Attributes:
        folds: of the cross-validation.
        minimum_rows: below this many rows nothing is fitted.
        signal_penalty: precision of the prior on the weights of confidence and agreement (inputs have spread 1).
        strength_penalty: the same where they decide how sharp the answer is.
        category_penalty: the same for the weights of the categories' probabilities.
        feature_penalty: the same for the weights of the features.
    """

    folds: int = 5
    minimum_rows: int = 20
    signal_penalty: float = 80.0
    strength_penalty: float = 100.0
    category_penalty: float = 80.0
    feature_penalty: float = 400.0


@dataclass(frozen=True)
class ImageTrainingSettings:
    """How the image model is trained; the defaults are the recipe that was measured.

    Attributes:
        alpha: width of MobileNetV2.
        epochs: passes of fine-tuning over the training pictures; 0 stops at the linear head.
        batch_size: pictures a step.
        learning_rate: highest rate of AdamW; reached after a twentieth of the steps, then down to 0 along a cosine.
        weight_decay: of AdamW.
        label_smoothing: share of each label spread over all categories.
        mixup: parameter of the beta distribution that mixes pairs of pictures (0: no mixing).
        dropout: share of the last features dropped in training.
        average_momentum: momentum of the averaged weights, which are the result.
        averaged_runs: fine-tunings from the same head, each with its own order, augmentation and mixing, whose weights
            are averaged (Wortsman et al. 2022, "Model soups").
        augmentations: some of AUGMENTATIONS.
        balance_rows: pseudo-count that pulls the targeted shares of the categories toward those of the training rows.
        head_penalties: L2 penalties tried for the linear head; validation log loss chooses.
    """

    alpha: float = 1.0
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    mixup: float = 0.2
    dropout: float = 0.2
    average_momentum: float = 0.995
    averaged_runs: int = 1
    augmentations: tuple[str, ...] = AUGMENTATIONS
    balance_rows: float = 50.0
    head_penalties: tuple[float, ...] = (0.1, 0.03, 0.01)

    def fast(self) -> ImageTrainingSettings:
        """The same without fine-tuning: each picture is seen once."""
        return dataclasses.replace(self, epochs=0, augmentations=AUGMENTATIONS[:1])

    def best(self) -> ImageTrainingSettings:
        """The same with more time: the mean of three fine-tunings."""
        return dataclasses.replace(self, averaged_runs=3)


@dataclass(frozen=True)
class TextModelSettings:
    """The text model's size and shape.

    Attributes:
        units: Rectified units: width of every table, and of the features.
        pair_rows: Rows of the table of word pairs: the commonest have one each.
        pair_slots: Slots of their index: a prime, at least twice as many.
        character_rows: Rows of the table of character n-grams.
        character_slots: Slots of their index.
        character_lengths: Lengths of the n-grams in UTF-8 bytes, growing, each at least 2.
        description_weight: How much the description's pooled vector counts beside the designation's 1; a sum
            of a few powers of 2, for serving stores it in 16 bits.
        linear_categories: With at most so many categories each table has, beside the units, a column a category that
            is added to the category's logit; with more, these would be most of the model.
    """

    units: int = 64
    pair_rows: int = 12_000
    pair_slots: int = 32_749
    character_rows: int = 55_000
    character_slots: int = 131_071
    character_lengths: tuple[int, ...] = (3, 4, 5)
    description_weight: float = 0.75
    linear_categories: int = 100

    def linear_columns(self, categories: int) -> int:
        """How many columns a table has beside its units."""
        return categories if categories <= self.linear_categories else 0

    def slots(self) -> dict[str, int]:
        """Slots of each index, by its table's name."""
        return {"word_pairs": self.pair_slots, "character_grams": self.character_slots}

    def rows(self) -> dict[str, int]:
        """Rows of each table that has an index."""
        return {"word_pairs": self.pair_rows, "character_grams": self.character_rows}

    def with_rows(self, rows: Mapping[str, int]) -> TextModelSettings:
        """The same with other numbers of rows, by table."""
        return dataclasses.replace(self, pair_rows=rows["word_pairs"], character_rows=rows["character_grams"])


@dataclass(frozen=True)
class TextTrainingSettings:
    """How the text model is fitted; the defaults were chosen in cross-validation over real products.

    Attributes:
        model: Size and shape of the model.
        vocabulary: Most words that the tokenizer knows.
        minimum_word_count: A rarer word is unknown; its character n-grams still count.
        epochs: Passes over the training rows.
        batch_size: Rows a step.
        learning_rate: Of the first step; falls linearly to 0.
        decay: Share of a touched table row that a step takes away, for each unit of the learning rate.
        feature_dropout: Share of a text's words, pairs and n-grams that a step does not see.
        unit_dropout: Share of the features that a step does not see.
        label_smoothing: Probability mass spread evenly over all categories.
        pretrained_words: Whether words have the pretrained encoder's vectors.
        teachers: Networks that are fitted first; the student learns from their logits for the training rows and for
            unlabelled texts (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). They read whole texts
            through the pretrained encoder, too, which would be too large to serve.
        teacher_share: Weight of the soft targets beside the labels, 0 to 1.
        teacher_feature_dropout: The teachers' feature_dropout.
        linear_share: Weight of the linear part's logits beside the network's 1; 0 for no linear part.
        folds: Of cross-fitting over the rows with gold labels: calibration, thresholds and fusion rest on out-of-fold
            predictions, and the model that serves learns from all rows. With 0 they rest on the validation rows, from
            which nothing is learned.
    """

    model: TextModelSettings = TextModelSettings()
    vocabulary: int = 50_000
    minimum_word_count: int = 1
    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 6e-3
    decay: float = 1.0
    feature_dropout: float = 0.3
    unit_dropout: float = 0.5
    label_smoothing: float = 0.05
    pretrained_words: bool = True
    teachers: int = 4
    teacher_share: float = 0.8
    teacher_feature_dropout: float = 0.5
    linear_share: float = 1.5
    folds: int = 10

    def fast(self) -> TextTrainingSettings:
        """The same without teachers and without cross-fitting."""
        return dataclasses.replace(self, teachers=0, folds=0)

    def best(self) -> TextTrainingSettings:
        """The same with more teachers."""
        return dataclasses.replace(self, teachers=12)


@dataclass(frozen=True)
class SplitSettings:
    """How a catalog is split.

    Attributes:
        kind: "grouped" keeps near-duplicates in one part; "plain" looks at each row alone.
        validation_fraction: Share of the rows with gold labels for validation, 0 to 1.
        test_fraction: The same for test; 0 where another catalog is the test.
        seed: Another seed gives another split.
        minimum_pairs: Validation takes rows with gold label, text and picture until it has so many, even beyond its
            share, as long as half of each of their categories' rows stay in train.
    """

    kind: str = "grouped"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    minimum_pairs: int = 300

    def __post_init__(self) -> None:
        """Refuses settings that make no split."""
        if self.kind not in KINDS:
            raise CatalogError("catalog.split_kind_unknown", kind=self.kind, kinds=", ".join(KINDS))
        fractions = (self.validation_fraction, self.test_fraction)
        if not all(0 <= fraction < 1 for fraction in fractions) or not 0 < sum(fractions) < 1:
            raise CatalogError("catalog.split_fractions", validation=self.validation_fraction, test=self.test_fraction)


@dataclass(frozen=True)
class TrainingSettings:
    """Every choice of a training run.

    Attributes:
        text: How the text model is fitted.
        image: How the image model is fitted.
        fusion: How the fusion model is fitted.
        text_input: How texts become ids.
        image_input: How pictures become pixels.
        split: How the catalog is split.
        other_label_weight: How much a row counts whose label is not the catalog's own, 0 to 1.
        seed: Of everything random. The same seed on the same machine gives the same bundle.
    """

    text: TextTrainingSettings = field(default_factory=TextTrainingSettings)
    image: ImageTrainingSettings = field(default_factory=ImageTrainingSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)
    text_input: TextSettings = field(default_factory=TextSettings)
    image_input: ImageSettings = field(default_factory=ImageSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    other_label_weight: float = 0.8
    seed: int = 0

    def fast(self) -> TrainingSettings:
        """The same with one text network and no fine-tuning of the image model."""
        return dataclasses.replace(self, text=self.text.fast(), image=self.image.fast())

    def best(self) -> TrainingSettings:
        """The same with more time for both models."""
        return dataclasses.replace(self, text=self.text.best(), image=self.image.best())
