"""Folders and archives in the published layout, and what is none."""

import pytest

from dss_jax import errors
from dss_jax.data import records


@pytest.mark.parametrize('files', [8, 9])
def test_what_a_folder_of_something_else_holds_is_shown(tmp_path, files):
  for number in range(files):
    (tmp_path / f'{number}.txt').write_text('')
  with pytest.raises(errors.DataError) as caught:
    records.read('cqa', str(tmp_path))
  shown = ', '.join(f'{number}.txt' for number in range(8))
  assert f'found {shown}{", …" if files > 8 else ""}. Give' in str(caught.value)
