'use strict';
// Searches and shows the questions in #data. Foreign text only ever becomes
// textContent, never markup.
(() => {
  const source = document.getElementById('data');
  if (!source) return;
  const {places, methods, texts, items} = JSON.parse(source.textContent);
  const PAGE = 10;
  const byId = (id) => document.getElementById(id);
  const text = (number) => (number < 0 ? '' : texts[number]);
  const lower = texts.map((one) => one.toLowerCase());
  // See Questions in browser.py for what an item holds.
  const isRight = ([, right, seeds]) => 2 * right > seeds;
  const textsOf = ([, question, gold, teacher, given]) => [
    question, gold, teacher,
    ...given.flatMap(([, , , answers, rationale]) =>
      [...answers.map(([answer]) => answer), rationale]),
  ];

  const make = (tag, content, className) => {
    const made = document.createElement(tag);
    if (content) made.textContent = content;
    if (className) made.className = className;
    return made;
  };
  // Foreign text may run from right to left; it stays in its own box.
  const foreign = (tag, content, className) => {
    const made = make(tag, '', className);
    made.append(make('bdi', content));
    return made;
  };
  const option = (value, label) => {
    const made = make('option', label);
    made.value = value;
    return made;
  };

  const outcomes = methods.map((name, number) => {
    const field = make('div', '', 'field');
    const label = make('label', name);
    const select = make('select');
    label.htmlFor = select.id = `outcome-${number}`;
    select.append(option('', 'any'), option('right', 'right'),
                  option('wrong', 'wrong'));
    field.append(label, select);
    byId('outcomes').before(field);
    return select;
  });
  byId('place').append(option('', 'any'));
  places.forEach((name, number) => byId('place').append(option(number, name)));
  // The last place that has questions: the largest model, the most rows.
  const last = Math.max(...items.map(([place]) => place));
  byId('place').options[last + 1].defaultSelected = true;
  byId('places').hidden = places.length < 2;

  const matches = (item, wanted, place, words) => {
    if (place !== '' && item[0] !== Number(place)) return false;
    const given = item[4];
    const asWanted = wanted.every((outcome, method) => {
      if (!outcome) return true;
      const mine = given.find(([number]) => number === method);
      return mine && isRight(mine) === (outcome === 'right');
    });
    return asWanted && (!words || textsOf(item).some(
      (number) => number >= 0 && lower[number].includes(words)));
  };

  const showMethod = ([method, right, seeds, answers, rationale]) => {
    const box = make('div', '', `arm-${method}`);
    const good = isRight([method, right, seeds]);
    box.append(make('h4', methods[method]));
    const verdict = seeds === 1 ? (good ? 'right' : 'wrong')
                                : `${right} of ${seeds} seeds right`;
    box.append(make('span', verdict, good ? 'right' : 'wrong'));
    for (const [answer, count] of answers) {
      const line = foreign('p', text(answer) || '(no answer)');
      if (seeds > 1) line.append(make('span', ` × ${count}`, 'soft'));
      box.append(line);
    }
    if (rationale >= 0) {
      box.append(foreign('p', text(rationale), 'small soft'));
    }
    return box;
  };

  const showItem = (item) => {
    const [place, question, gold, teacher, given] = item;
    const box = make('article', '', 'question');
    if (places.length > 1) box.append(make('p', places[place], 'small soft'));
    box.append(foreign('p', text(question)));
    const answer = make('p', 'Gold: ');
    answer.append(foreign('span', text(gold), 'gold'));
    box.append(answer);
    if (teacher >= 0) {
      const said = make('p', 'Teacher: ', 'small soft');
      said.append(make('bdi', text(teacher)));
      box.append(said);
    }
    const all = make('div', '', 'given');
    all.append(...given.map(showMethod));
    box.append(all);
    return box;
  };

  let found = items;
  let first = 0;
  const show = () => {
    byId('questions').replaceChildren(
      ...found.slice(first, first + PAGE).map(showItem));
    const last = Math.min(first + PAGE, found.length);
    byId('count').textContent = found.length
      ? `${first + 1} to ${last} of ${found.length.toLocaleString('en')}`
      : 'No question is like that.';
    byId('previous').disabled = first === 0;
    byId('next').disabled = last >= found.length;
  };
  const filter = () => {
    const wanted = outcomes.map((select) => select.value);
    const place = byId('place').value;
    const words = byId('text').value.toLowerCase();
    found = items.filter((item) => matches(item, wanted, place, words));
    first = 0;
    show();
  };
  const turn = (pages) => {
    first += pages * PAGE;
    show();
    byId('browser').scrollIntoView();
  };

  byId('filters').addEventListener('input', filter);
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  // The fields are empty only after the event.
  byId('filters').addEventListener('reset', () => setTimeout(filter));
  byId('previous').addEventListener('click', () => turn(-1));
  byId('next').addEventListener('click', () => turn(1));
  filter();
})();
