"""The text model as a plain functional Keras model, untrained; it loads in safe mode without this project."""

from __future__ import annotations

import keras

from rakuten_models.preprocessing.text import TextSettings
from training.settings import TextModelSettings
from training.text.features import index_layer, text_feature_rows, text_inputs, weighted_name


def build_text_model(
    categories: int, vocabulary: int, text_settings: TextSettings, settings: TextModelSettings | None = None
) -> keras.Model:
    """Builds the text model: words, word pairs and character n-grams pooled, then a network and a linear part.

    Each text has rows of three tables (`text_feature_rows`), summed up with weights that depend on the counts only. The
    first columns of the sum are rectified and go through one linear layer; the others, one a category, are added to its
    logits. So, given the rectifier's on/off pattern, the logits are an exact sum of one vector a word, pair and n-gram,
    plus the bias; see training/text/attribution_model.py. (A network beside a linear part: Cheng et al. 2016, "Wide &
    Deep Learning for Recommender Systems"; the n-grams: Joulin et al. 2016, "Bag of Tricks for Efficient Text
    Classification".)

    Args:
        categories: How many, at least 2.
        vocabulary: Number of the tokenizer's tokens; id 0 is padding and id 1 the unknown word.
        text_settings: How texts become ids.
        settings: Size and shape, `TextModelSettings()` if None.

    Returns:
        A model {"token_ids" int32 (n, any length), "character_ids" int32 (n, any length)} -> {"logits" float32 (n,
        categories), "features" float32 (n, units), 0 or above}; tables and head random, no pair or n-gram indexed.
    """
    settings = settings or TextModelSettings()
    inputs = text_inputs()
    pooled = []
    counts = {"words": vocabulary, **settings.rows()}
    linear = settings.linear_columns(categories)
    index = {table: index_layer(table, settings) for table in settings.slots()}
    for name, (rows, weights) in text_feature_rows(inputs, text_settings, settings, index).items():
        table = keras.layers.Embedding(counts[name], settings.units + linear, name=name)
        weigh = keras.layers.Multiply(name=weighted_name(name, settings))
        pooled.append(keras.ops.sum(weigh([table(rows), keras.ops.expand_dims(weights, -1)]), axis=1))
    total = keras.layers.Add(name="pooled")(pooled)
    features = keras.layers.ReLU(name="features")(total[:, : settings.units])
    logits = keras.layers.Dense(categories, name="head")(features)
    if linear:
        logits = keras.layers.Add(name="logits")([logits, total[:, settings.units :]])
    return keras.Model(inputs, {"logits": logits, "features": features}, name="text_model")
