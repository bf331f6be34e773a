"""How long training, serving and starting take."""
