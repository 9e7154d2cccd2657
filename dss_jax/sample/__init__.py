"""The packaged samples: small data sets written by this package.

`data/` holds them in the published layout (`cqa/cqa_<split>.json` and
`cqa/llm/<split>_CoT_<i>.json`, …) with a vocabulary trained on the text of the
first. These commands write it:

  python -m dss_jax.sample.cqa
  python -m dss_jax.sample.svamp       SVAMP and ASDiv
  python -m dss_jax.sample.nli         e-SNLI and ANLI
  python -m dss_jax.sample.vocabulary
"""

import os

# The folder that `DATA = 'sample'` names; it holds `cqa/`, `svamp/`, ….
DATA_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')

# SentencePiece model of the sample; ids 0 padding, 1 end, 2 unknown, as in T5.
VOCABULARY_FILE = os.path.join(DATA_DIR, 'vocabulary', 'sentencepiece.model')
