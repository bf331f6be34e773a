"""The text model: features, network, linear part, tokenizer."""
