"""The tutorial's tickets: writes tickets.jsonl and tickets_test.csv beside it.

  python docs/tutorial/make_tickets.py

A ticket has one matter that is open, which decides its label, and often another
one that is settled and misleads. The words of some matters mislead as well: the
charge of a battery is no bill. The rationale argues from the text to the label,
as a teacher would. The same files come out each time.
"""

import csv
import json
import pathlib
import random

TRAIN_ROWS, TEST_ROWS = 600, 100
PRODUCTS = [
  'lamp', 'kettle', 'tent', 'drill', 'toaster', 'camera', 'radio', 'speaker',
  'heater', 'printer', 'blender', 'scale',
]  # fmt: skip

# Each class, and how a rationale ends that leads to it.
ENDS = {
  'account': 'that is about the account',
  'billing': 'that is about money',
  'delivery': 'that is about the way to the customer',
  'fault': 'that is a fault',
  'return': 'that is about giving it back',
}

# What is open: the customer's words, and what they come to. P is a product.
OPEN = {
  'account': (
    ('I cannot log in since I changed my phone', 'login fails'),
    ('The reset link for my password does not come', 'the password is lost'),
    ('Please change the name on my profile', 'a profile has to change'),
    ('Somebody else has logged in as me', 'somebody else can log in'),
    ('Please delete my profile and all my data', 'the profile has to go'),
    ('My new email address is not accepted', 'an address is refused'),
    ('The page returns to the login each time', 'login fails'),
    ('The code for the login was delivered to an old phone', 'login fails'),
    ('I cannot see a bill as my password is refused', 'login fails'),
    ('My user name is broken since the update', 'the user name does not work'),
  ),
  'billing': (
    ('I was charged twice for the P', 'the P was charged twice'),
    ('The invoice has a wrong price for the P', 'the price is wrong'),
    ('The refund for the P is not at my bank', 'a refund is missing'),
    ('You took the fee for delivery two times', 'a fee was taken twice'),
    ('The discount is not taken off my bill', 'a discount is missing'),
    ('I need an invoice with our tax number', 'an invoice is missing'),
    ('I pay for two plans and use one', 'a plan too many is paid'),
    ('I gave the P back in May and wait for my money', 'a refund is missing'),
    ('My account shows a payment that I never made', 'a payment is wrong'),
    ('A broken P still costs me its monthly rate', 'a rate is still taken'),
  ),
  'delivery': (
    ('The P has not arrived', 'the P has not arrived'),
    ('The parcel lies at a house that is not mine', 'the parcel went astray'),
    ('Tracking has named the same town for a week', 'the parcel is stuck'),
    ('Please bring the P to my office', 'the P has to go elsewhere'),
    ('The driver of the P did not ring', 'the P was not handed over'),
    ('When will the P be here', 'the P is not here'),
    ('One of two boxes is missing', 'a box has not arrived'),
    ('I paid for express and still wait for the P', 'the P has not arrived'),
    ('The invoice is here and the P is not', 'the P is not here'),
    ('The P that replaces the broken one is late', 'the new P is late'),
  ),
  'fault': (
    ('The P does not switch on', 'the P does not start'),
    ('The P stops after two minutes', 'the P stops'),
    ('The handle of the P is cracked', 'the P is cracked'),
    ('The P makes a loud noise', 'the P is too loud'),
    ('The P smells of smoke', 'the P burns'),
    ('The P loses its charge in an hour', 'the battery of the P is weak'),
    ('The return button of the P is stuck', 'a button of the P is stuck'),
    ('The P asks for a login and then freezes', 'the P freezes'),
    ('The P delivers no power', 'the P has no power'),
    ('Money is not the point, the P leaks', 'the P leaks'),
  ),
  'return': (
    ('I want to send the P back', 'the P has to go back'),
    ('How do I return the P', 'the P has to go back'),
    ('We have a P already, please take this one', 'one P is too many'),
    ('I would like to swap the P for a blue one', 'another P is wanted'),
    ('I changed my mind and do not want the P', 'the P is not wanted'),
    ('The label for the way back does not print', 'the P has to go back'),
    ('The P works but does not suit us', 'the P does not suit'),
    ('Please collect the P, it is too small', 'the P does not suit'),
    ('Is it too late to give back the P I paid in May', 'the P has to go back'),
    ('Nothing is broken, the P is just too big', 'the P does not suit'),
  ),
}  # fmt: skip

# What is settled: the words of the customer, and what a rationale calls it.
SETTLED = {
  'account': (
    ('My login works again', 'the login'),
    ('I have a new password now', 'the password'),
    ('My profile is in order', 'the profile'),
  ),
  'billing': (
    ('The invoice was right', 'the invoice'),
    ('I have paid the bill for the Q', 'the bill'),
    ('The refund for the Q came', 'the refund'),
    ('The charge on my card is fine', 'the charge'),
  ),
  'delivery': (
    ('The parcel came in time', 'the parcel'),
    ('Delivery of the Q was quick', 'the delivery'),
    ('The driver was friendly', 'the delivery'),
  ),
  'fault': (
    ('The broken Q works again', 'the Q'),
    ('My old Q was repaired', 'the Q'),
    ('The noise of the Q is gone', 'the noise'),
  ),
  'return': (
    ('The Q went back last week', 'the Q'),
    ('You swapped the Q at once', 'the Q'),
    ('To return the Q was easy', 'the Q'),
  ),
}

GREETINGS = ('', '', '', 'Hello. ', 'Hi. ', 'Good morning. ', 'Dear team. ')
ENDINGS = ('', '', '', ' Please help.', ' Thank you.', ' Can you help?')


def ticket(draw: random.Random) -> dict[str, str]:
  """Returns a ticket with its label and a rationale for it."""
  label = draw.choice(list(OPEN))
  words, reason = draw.choice(OPEN[label])
  mark = '?' if words.startswith(('How', 'When', 'Is ')) else '.'
  text = f'{words}{mark}'
  rationale = f'{reason}, and {ENDS[label]}.'
  if draw.random() < 0.8:
    other = draw.choice([name for name in SETTLED if name != label])
    aside, about = draw.choice(SETTLED[other])
    if draw.random() < 0.5:
      text = (
        f'{aside}. {draw.choice(("", "", "But now: ", "Now this: "))}{text}'
      )
    else:
      text = f'{text} {aside}.'
    rationale = f'{about} is settled, but {rationale}'
  p, q = draw.sample(PRODUCTS, 2)
  text = draw.choice(GREETINGS) + text + draw.choice(ENDINGS)
  if draw.random() < 0.2:  # As people type on a phone.
    text = text.lower().replace('.', '').replace(',', '')
  rationale = rationale[0].upper() + rationale[1:]
  named = {'P': p, 'Q': q, 'p': p, 'q': q}

  def name(text: str) -> str:
    return ' '.join(
      named[word.rstrip('.,?')] + word[1:]
      if word.rstrip('.,?') in named
      else word
      for word in text.split(' ')
    )

  return {'ticket': name(text), 'label': label, 'rationale': name(rationale)}


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
