"""The tutorial's tickets: writes tickets.jsonl and tickets_test.csv beside it.

  python docs/tutorial/make_tickets.py

A ticket speaks of one to three matters. One of them is open, which decides the
label: the desk that the ticket goes to. The others are settled, in nearly the
same words. Some names mislead as well: the return key is a part of the device,
and the delivery fee is money. The rationale says what is settled and argues
from what is open to the label, as a teacher would. The same files come out each
time.
"""

import csv
import json
import pathlib
import random

TRAIN_ROWS, TEST_ROWS = 600, 100

# Matters of each class, by what there is to say of them.
MATTERS = {
  'account': {
    'comes': ['login code', 'reset link', 'link to sign in', 'new password'],
    'works': ['login', 'password', 'sign-in page', 'user name'],
    'right': ['name on my profile', 'email of my profile', 'profile picture',
              'birthday in my profile'],
  },
  'billing': {
    'comes': ['refund', 'invoice', 'receipt', 'credit note'],
    'works': ['discount code', 'payment by card', 'gift card', 'voucher'],
    'right': ['price', 'delivery fee', 'tax on the bill', 'charge on my card'],
  },
  'delivery': {
    'comes': ['parcel', 'second box', 'driver', 'letter with the tracking'],
    'works': ['tracking', 'parcel locker', 'tracking page',
              'code of the parcel locker'],
    'right': ['street on the parcel', 'day of delivery', 'house number',
              'place where the driver left it'],
  },
  'device': {
    'comes': ['sound', 'light of the lamp', 'warm air', 'picture'],
    'works': ['motor', 'return key', 'battery charge', 'switch', 'lock'],
    'right': ['clock of the heater', 'weight that the scale shows',
              'date on the camera'],
  },
  'return': {
    'comes': ['return label', 'box for the way back', 'exchange',
              'collection of the old lamp'],
    'works': ['return form', 'return page', 'exchange form',
              'label for the way back'],
    'right': ['size of the swap', 'color of the swap', 'model for the swap',
              'last day to send it back'],
  },
}  # fmt: skip

# What is said of a matter N that is settled, and of one that is open.
SETTLED = {
  'comes': ['The N came', 'The N is here', 'I have the N now'],
  'works': ['The N works', 'The N works again', 'I can use the N'],
  'right': ['The N is right', 'The N is right again', 'You changed the N'],
}
OPEN = {
  'comes': ['The N never came', 'The N is not here', 'I still miss the N'],
  'works': ['The N works no longer', 'The N fails', 'I cannot use the N'],
  'right': ['The N is wrong', 'The N is wrong again', 'You must change the N'],
}
REASONS = {'comes': 'is missing', 'works': 'fails', 'right': 'is wrong'}

GREETINGS = ['', '', '', 'Hello. ', 'Hi. ', 'Good morning. ', 'Dear team. ']
ENDINGS = ['', '', '', ' Please help.', ' Thank you.', ' Can you help?']


def ticket(draw: random.Random) -> dict[str, str]:
  """Returns a ticket with its label and a rationale for it."""
  label, *others = draw.sample(list(MATTERS), draw.choice((1, 2, 2, 3, 3)))
  kind = draw.choice(list(REASONS))
  matter = draw.choice(MATTERS[label][kind])
  sentences = [draw.choice(OPEN[kind]).replace('N', matter)]
  rationale = f'the {matter} {REASONS[kind]}, so it goes to {label}.'
  for other in others:
    kind = draw.choice(list(REASONS))
    words = draw.choice(SETTLED[kind])
    sentences.append(words.replace('N', draw.choice(MATTERS[other][kind])))
  draw.shuffle(sentences)
  text = draw.choice(GREETINGS) + '. '.join(sentences) + '.'
  text += draw.choice(ENDINGS)
  if draw.random() < 0.2:  # As people type on a phone.
    text = text.lower().replace('.', '').replace(',', '')
  if others:
    verb = 'is' if len(others) == 1 else 'are'
    rationale = (
      f'{" and ".join(sorted(others))} {verb} settled, but {rationale}'
    )
  return {
    'ticket': text,
    'label': label,
    'rationale': rationale[0].upper() + rationale[1:],
  }


def write(folder: pathlib.Path) -> None:
  """Writes both files; no text is in both, or twice in one."""
  draw = random.Random(16)
  rows: dict[str, dict[str, str]] = {}
  while len(rows) < TRAIN_ROWS + TEST_ROWS:
    row = ticket(draw)
    rows.setdefault(row['ticket'], row)
  drawn = list(rows.values())
  with open(folder / 'tickets.jsonl', 'w', encoding='utf-8') as f:
    f.writelines(json.dumps(row) + '\n' for row in drawn[:TRAIN_ROWS])
  with open(folder / 'tickets_test.csv', 'w', encoding='utf-8') as f:
    table = csv.DictWriter(
      f, ('ticket', 'label'), extrasaction='ignore', lineterminator='\n'
    )
    table.writeheader()
    table.writerows(drawn[TRAIN_ROWS:])


if __name__ == '__main__':
  write(pathlib.Path(__file__).parent)
