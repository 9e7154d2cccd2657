"""Small compiled programs, written by hand in XLA's syntax, for four chips.

LOOP runs a loop 3 times; each time it gathers a parameter's parts
(asynchronously, beside a copy), multiplies, and writes a slice of a stack. Then
the result is summed over the chips.

CARRIED gathers as TPU's compiler writes it: in a fusion that starts it, one
that carries it on beside work of its own (MIDDLE, to be replaced by %carry with
a product, or %tiny), and one that ends it.
"""

import pathlib

_HERE = pathlib.Path(__file__)
LOOP = _HERE.with_name('loop.hlo').read_text(encoding='utf-8')
CARRIED = _HERE.with_name('carried.hlo').read_text(encoding='utf-8')
