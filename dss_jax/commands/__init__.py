"""Commands of `dss` that are a few modules each.

  data               `dss data`: looks at data, or prepares it
  inspection         what training would see of it
  inspection_screen  that, on a terminal
  unknown_text       what the vocabulary does not know of it

`dss export`, `dss extract` and others have packages of their own. Importing the
package loads none of them.
"""

__all__ = ('data', 'inspection', 'unknown_text')
