"""The names of the ways to train, for modules with and without TensorFlow."""

METHODS = ('dss', 'finetune', 'single_task')
# Before the inputs of 'dss': which of its two tasks is asked.
LABEL_PREFIX = 'predict: '
RATIONALE_PREFIX = 'explain: '
# Between rationale and label in the target of 'single_task'.
ANSWER_PHRASE = 'So the answer is'
