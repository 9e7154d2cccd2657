"""T5 1.0 and T5 1.1: the layers and the encoder-decoder network."""
