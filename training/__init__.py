"""Training, evaluation and publishing: from a catalog to a bundle to a hub. Never imported by serving code."""

from pathlib import Path

from rakuten_models.errors import register_messages

register_messages(Path(__file__).parent / "messages")
