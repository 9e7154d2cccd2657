'use strict';
// Searches and shows the questions in #data. Foreign text only ever becomes
// textContent, never markup.
(() => {
  const source = document.getElementById('data');
  if (!source) return;
  const {places, methods, texts, items, classes = [], start = '', golds = []} =
    JSON.parse(source.textContent);
  const PAGE = 10;
  const byId = (id) => document.getElementById(id);
  const text = (number) => (number < 0 ? '' : texts[number]);
  const lower = texts.map((one) => one.toLowerCase());
  // See Questions in dss_jax/study/report/browser.py for what an item holds.
  // Without seeds, nobody knows which answers are right.
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
    [...select.options].find(({value}) => value === start).defaultSelected =
      true;
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
  // Where labels are classes, their names are numbers of texts.
  for (const [name, more] of [['gold', []], ['said', ['none']]]) {
    byId(name).append(option('', 'any'));
    classes.forEach((one, n) => byId(name).append(option(n, text(one))));
    more.forEach((one) => byId(name).append(option(one, 'none of them')));
    byId(name).parentElement.hidden = !classes.length;
  }
  const isAnswer = (answer, wanted) => (wanted === 'none'
    ? !classes.includes(answer) : answer === classes[wanted]);

  const matches = (item, wanted, place, words) => {
    if (place !== '' && item[0] !== Number(place)) return false;
    const given = item[4];
    const asWanted = wanted.every((outcome, method) => {
      if (!outcome) return true;
      const mine = given.find(([number]) => number === method);
      return mine && mine[2] > 0 && isRight(mine) === (outcome === 'right');
    });
    const [gold, said] = [byId('gold').value, byId('said').value];
    if (gold !== '' && item[2] !== classes[gold]) return false;
    if (said !== '' && !given.some(([, , , answers]) =>
      answers.some(([answer]) => isAnswer(answer, said)))) return false;
    return asWanted && (!words || textsOf(item).some(
      (number) => number >= 0 && lower[number].includes(words)));
  };

  const showMethod = ([method, right, seeds, answers, rationale]) => {
    const box = make('div', '', `arm-${method}`);
    const good = isRight([method, right, seeds]);
    box.append(make('h4', methods[method]));
    const verdict = seeds === 1 ? (good ? 'right' : 'wrong')
                                : `${right} of ${seeds} seeds right`;
    if (seeds) box.append(make('span', verdict, good ? 'right' : 'wrong'));
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
    const asked = make('div', '', 'asked');
    if (places.length > 1 && byId('place').value === '') {
      asked.append(make('p', places[place], 'small soft'));
    }
    asked.append(foreign('p', text(question)));
    const answer = make('p', golds[place] ?? 'Gold: ');
    answer.append(foreign('span', text(gold), 'gold'));
    asked.append(answer);
    box.append(asked);
    const all = make('div', '', 'given');
    all.append(...given.map(showMethod));
    if (teacher >= 0) {
      const said = make('div', '', 'teacher');
      said.append(make('h4', 'the teacher'),
                  foreign('p', text(teacher), 'small soft'));
      all.append(said);
    }
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

  // A number of a table of confusion shows the answers that it counts.
  for (const cell of document.querySelectorAll('button.cell')) {
    cell.addEventListener('click', () => {
      byId('filters').reset();
      setTimeout(() => {
        byId('place').value = places.indexOf(cell.dataset.place);
        byId('gold').value = cell.dataset.gold;
        byId('said').value = cell.dataset.said;
        outcomes.forEach((select) => { select.value = ''; });
        filter();
        byId('browser').scrollIntoView();
        byId('text').focus({preventScroll: true});
      });
    });
  }
  byId('filters').addEventListener('input', filter);
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  // The fields are empty only after the event.
  byId('filters').addEventListener('reset', () => setTimeout(filter));
  byId('previous').addEventListener('click', () => turn(-1));
  byId('next').addEventListener('click', () => turn(1));
  filter();
})();
