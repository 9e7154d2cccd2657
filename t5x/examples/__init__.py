"""Networks that the engine trains, each in a package of its own."""
