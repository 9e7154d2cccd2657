"""An independent engine with T5X's interface, on today's JAX.

Importing this package loads nothing else; every module is imported by its own
name (`from t5x import trainer`), lowest layer first, as `docs/design.md` draws.
"""
