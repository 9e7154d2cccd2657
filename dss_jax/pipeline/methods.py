"""The names of the ways to train, for modules with and without TensorFlow."""

METHODS = ('dss', 'finetune', 'single_task')
