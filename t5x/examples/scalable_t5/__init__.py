"""The T5 of `t5x.examples.t5` as T5X's scalable_t5: Pile-T5 v2 and umT5."""
