// The token map: every token of a text, coloured by the expert that kept it.

const PAGE_UNITS = 4096;

const tokenDrawing = {
  build(state) {
    buildSteps(state);
    state.part('pads').hidden = !state.columns.is_padding;
    state.page = state.units.length ? Math.floor(state.units.at(-1) / PAGE_UNITS) : 0;
    buildPage(state);
  },

  listen(state) {
    state.part('before').onclick = () => turnPage(state, state.page - 1);
    state.part('after').onclick = () => turnPage(state, state.page + 1);
    state.part('numbers').onchange = (event) => state.root.classList.toggle('numbered', event.target.checked);
    state.part('pads-shown').onchange = () => followPadding(state);
    followPadding(state);
    listenToSteps(state);
  },

  recolour(state) {
    const colours = coloursOf(state);
    writeColours(state, colours);
    for (const [unit, element] of state.elements) {
      const route = routeOf(state.routes, state.site, unit);
      annotate(state, element, unit, route, nameOf(state, unit));
      element.classList.toggle('neutral', route.expert >= 0 && !colours[route.expert]);
    }
  },

  marks(state, unit) {
    const element = state.elements.get(unit);
    return element ? [element] : [];
  },

  isHidden: (state, unit) => state.stepOf[unit] > state.step || (state.hidesPadding && isPadding(state, unit)),

  // Bring a unit into sight without moving the page around the map.
  show(state, unit) {
    const page = Math.floor(unit / PAGE_UNITS);
    if (page !== state.page && unit < state.routes.units) turnPage(state, page);
    if (state.stepOf[unit] > state.step) chooseStep(state, state.stepOf[unit]);
    if (state.hidesPadding && isPadding(state, unit)) {
      state.part('pads-shown').checked = true;
      followPadding(state);
    }
    bringIntoSight(state, unit);
  },

  neighbour(state, element, key) {
    const unit = Number(element.dataset.unit);
    const first = state.page * PAGE_UNITS;
    const last = Math.min(first + PAGE_UNITS, lastShown(state) + 1) - 1;
    const steps = { ArrowRight: unit + 1, ArrowLeft: unit - 1, Home: first, End: last };
    if (key in steps) return shownElement(state, steps[key]);
    if (key === 'ArrowDown') return lineNeighbour(state, element, 1);
    if (key === 'ArrowUp') return lineNeighbour(state, element, -1);
    return undefined;
  },

  card(state, unit) {
    const { columns, data } = state;
    const lines = [];
    const loss = columns.loss[unit];
    lines.push(Number.isNaN(loss)
      ? 'Loss unknown: nothing predicted this token.'
      : `Loss ${loss.toFixed(3)} nats: the model gave it probability ${Math.exp(-loss).toPrecision(3)}.`);
    if (!Number.isNaN(columns.output_probability[unit])) {
      const probability = columns.output_probability[unit].toPrecision(3);
      lines.push(`Next it would say “${visible(data.output_text[unit])}” with probability ${probability}.`);
    }
    const where = [`position ${columns.position[unit]}`];
    if (columns.example.at(-1) > 0) where.push(`example ${columns.example[unit]}`);
    if (columns.token_id[unit] >= 0) where.push(`token id ${columns.token_id[unit]}`);
    if (columns.is_decoded[unit]) where.push('written by the model');
    lines.push(where.join(' · '));
    return { heading: nameOf(state, unit), lines };
  },
};

// Colours as rules of a style sheet: tokens of one expert share one computed style, which inline styles prevent.
function writeColours(state, colours) {
  const home = state.root.getRootNode();
  if (!state.sheet) {
    state.sheet = new CSSStyleSheet();
    home.adoptedStyleSheets = [...home.adoptedStyleSheets, state.sheet];
  }
  const rules = Object.entries(colours).map(([expert, colour]) => `.token[data-expert="${expert}"] { --fill: ${colour}; }`);
  state.sheet.replaceSync(`.token[data-expert="-1"] { --fill: transparent; } ${rules.join(' ')}`);
}

function bringIntoSight(state, unit) {
  const body = state.part('body');
  const [box, frame] = [state.elements.get(unit)?.getBoundingClientRect(), body.getBoundingClientRect()];
  if (box && (box.top < frame.top || box.bottom > frame.bottom)) {
    body.scrollTop += box.top - frame.top - frame.height / 3;
  }
}

function shownElement(state, unit) {
  const element = state.elements.get(unit);
  return element && !tokenDrawing.isHidden(state, unit) ? element : null;
}

function lastShown(state) {
  let unit = state.routes.units - 1;
  while (unit > 0 && tokenDrawing.isHidden(state, unit)) unit -= 1;
  return unit;
}

const isPadding = (state, unit) => state.columns.is_padding?.[unit] === 1;

function followPadding(state) {
  state.hidesPadding = !state.part('pads-shown').checked;
  state.root.classList.toggle('no-padding', state.hidesPadding);
  if (state.isDrawn) buildLegend(state);
  if (state.isDrawn) light(state);
}

// A line with the number of units, then a place in small type: all of it is seen, and none of it is in the way.
function startPadding(state, unit) {
  const { example } = state.columns;
  let end = unit;
  while (end < example.length && isPadding(state, end) && example[end] === example[unit]) end += 1;
  const place = make('div', 'padding');
  place.append(make('div', 'cut', `padding: ${(end - unit).toLocaleString('en-US')} units behind the end of the example`));
  return place;
}

function nameOf(state, unit) {
  const { part, parts } = state.columns;
  if (parts[unit] === 1) return visible(state.data.text[unit]);
  const whole = visible(state.data.text[unit - part[unit]]);
  return `${whole} (piece ${part[unit] + 1} of ${parts[unit]})`;
}

function turnPage(state, page) {
  state.page = page;
  buildPage(state);
  state.drawing.recolour(state);
  light(state);
  markChosen(state);
}

function buildPage(state) {
  const { columns, data } = state;
  const total = state.routes.units;
  const first = state.page * PAGE_UNITS;
  const end = Math.min(first + PAGE_UNITS, total);
  const drawn = document.createDocumentFragment();
  state.elements = new Map();
  let home = drawn;
  for (let unit = first; unit < end; unit++) {
    const isStart = unit === 0 || columns.example[unit] !== columns.example[unit - 1];
    if (isStart && columns.example.at(-1) > 0) drawn.append(make('div', 'cut', `example ${columns.example[unit]}`));
    if (columns.is_decoded[unit] && (unit === 0 || !columns.is_decoded[unit - 1])) {
      drawn.append(make('div', 'cut', 'written by the model'));
    }
    if (!isPadding(state, unit)) home = drawn;
    else if (home === drawn || isStart) drawn.append(home = startPadding(state, unit));
    const text = data.text[unit];
    if (text.startsWith(' ')) home.append(document.createElement('wbr'));
    const element = make('span', 'token');
    element.setAttribute('role', 'option');
    element.setAttribute('aria-selected', 'false');
    element.setAttribute('tabindex', unit === first ? '0' : '-1');
    element.dataset.unit = unit;
    const piece = columns.parts[unit] > 1 ? `${columns.part[unit] + 1}/${columns.parts[unit]}` : '';
    const ends = columns.part[unit] === 0 && text.endsWith('\n'); // the last line break stands behind the token
    const shown = columns.part[unit] > 0 ? '' : visible(text).replace(/⏎/g, '⏎\n').replace(/\n$/, '');
    element.textContent = shown;
    if (piece) element.append(make('span', 'piece', piece));
    home.append(element);
    if (ends) home.append(document.createElement('br'));
    state.elements.set(unit, element);
  }
  state.part('body').replaceChildren(drawn);
  hideLater(state);
  state.part('body').scrollTop = 0;
  state.part('pager').hidden = total <= PAGE_UNITS;
  const number = (value) => value.toLocaleString('en-US');
  state.part('pages').textContent =
    `A page holds ${number(PAGE_UNITS)} tokens: these are tokens ${number(first)} to ${number(end - 1)} of ${number(total)}.`;
  state.part('before').disabled = state.page === 0;
  state.part('after').disabled = end === total;
  state.part('nothing').hidden = total > 0;
}

function lineNeighbour(state, element, direction) {
  const here = element.getBoundingClientRect();
  let best = null;
  let bestTop = null;
  let bestGap = Infinity;
  let unit = Number(element.dataset.unit) + direction;
  for (let next = shownElement(state, unit); next; unit += direction, next = shownElement(state, unit)) {
    const box = next.getClientRects()[0];
    if (!box || Math.abs(box.top - here.top) < 4) continue;
    if (bestTop !== null && Math.abs(box.top - bestTop) >= 4) break;
    bestTop = box.top;
    const gap = Math.abs(box.left - here.left);
    if (gap < bestGap) [best, bestGap] = [next, gap];
  }
  return best;
}

export default function (component) {
  mountMap(component, tokenDrawing);
}
