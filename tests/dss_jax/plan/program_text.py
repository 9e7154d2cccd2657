"""A small compiled program, written by hand in XLA's syntax.

Four chips. A loop runs 3 times; each time it gathers a parameter's parts
(asynchronously, beside a fusion with a matrix product), and writes a slice of a
stack. Then the result is summed over the chips.
"""

import pathlib

LOOP = pathlib.Path(__file__).with_name('loop.hlo').read_text(encoding='utf-8')
