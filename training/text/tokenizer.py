"""Trains the bundle's tokenizer on a catalog's words."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rakuten_models.preprocessing.cleaning import clean_text
from training.settings import TextTrainingSettings
from training.text.feature_matrix import PADDING_TOKEN, UNKNOWN_TOKEN


def train_tokenizer(texts: Iterable[str], settings: TextTrainingSettings) -> Tokenizer:
    """A tokenizer of the words of some texts, cleaned here, lower-cased, without accents; 0 is padding, 1 unknown."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN_TOKEN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.minimum_word_count,
        special_tokens=[PADDING_TOKEN, UNKNOWN_TOKEN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(clean_text, texts), trainer)
    return tokenizer
