// Shared by the maps: the legend, which lights units and pins colours. One stop of the Tab key; arrows walk in it.

const STATUSES = ['partly dropped', 'dropped', 'unrouted'];

function buildLegend(state) {
  const { routes, site } = state;
  const legend = state.part('legend');
  const count = countKinds(state);
  const colours = coloursOf(state);
  const chips = [];
  const others = [];
  for (let expert = 0; expert < routes.sites[site].num_experts; expert++) {
    if (colours[expert]) chips.push(expertChip(state, expert, count));
    else others.push(expert);
  }
  if (others.length) {
    chips.push(othersChip(state, others, count));
    if (state.showsOthers) chips.push(...others.map((expert) => expertChip(state, expert, count)));
  }
  for (const status of STATUSES) {
    const isPossible = (status === 'unrouted') === (routes.sites[site].selection === 'expert_choice');
    if (isPossible || count.has(status)) chips.push(statusChip(state, status, count));
  }
  if (routes.columns.fillers) chips.push(statusChip(state, 'filler', count));
  if (state.changes) chips.push(changedChip(state, count));
  const focused = legend.getRootNode().activeElement;
  const place = legend.contains(focused) ? [...legend.querySelectorAll('button')].indexOf(focused) : -1;
  legend.replaceChildren(...chips);
  const buttons = [...legend.querySelectorAll('button')];
  const current = buttons[Math.min(Math.max(0, place), buttons.length - 1)];
  for (const button of buttons) button.tabIndex = button === current ? 0 : -1;
  if (place >= 0) current?.focus();
}

// Units by the expert they preferred among those that kept them, by status, and those that changed; as far as shown.
function countKinds(state) {
  const { routes, site } = state;
  const count = new Map();
  const add = (name) => count.set(name, (count.get(name) ?? 0) + 1);
  for (let unit = 0; unit < routes.units; unit++) {
    if (state.drawing.isHidden?.(state, unit)) continue;
    const place = site * routes.units + unit;
    if (routes.first[place] >= 0) add(`E${routes.first[place]}`);
    add(routes.status[place]);
    if (routes.filled[place + 1] > routes.filled[place]) add('filler');
    if (state.changes?.has(place)) add('changed');
  }
  return count;
}

function chipButton(state, name, text, units, expert) {
  const button = makeButton('key');
  button.dataset.key = name;
  const swatch = make('span', 'swatch');
  if (expert < 0) swatch.dataset.status = name;
  paint(swatch, expert, state);
  button.append(swatch, make('span', 'word', text), make('span', 'count', String(units)));
  return button;
}

function expertChip(state, expert, count) {
  const name = `E${expert}`;
  const units = count.get(name) ?? 0;
  const chip = make('span', 'chip');
  const button = chipButton(state, name, name, units, expert);
  button.title = `${name}: first choice among those that kept it for ${units} units. Click: light all that it took. Ctrl or Shift: several.`;
  button.onclick = (event) => chooseExpert(state, expert, event.ctrlKey || event.metaKey || event.shiftKey);
  const site = state.routes.sites[state.site].site_id;
  const isPinned = state.pinned.some(([one, other]) => one === site && other === expert);
  const pin = makeButton('pin', isPinned ? '◆' : '◇');
  pin.setAttribute('aria-pressed', String(isPinned));
  pin.setAttribute('aria-label', `Pin the colour of ${name}`);
  pin.title = isPinned ? `${name} keeps its colour. Click to unpin.` : `Pin ${name}: pinned experts alone have a colour.`;
  pin.onclick = () => choosePin(state, expert);
  chip.append(button, pin);
  return chip;
}

function othersChip(state, others, count) {
  const units = others.reduce((sum, expert) => sum + (count.get(`E${expert}`) ?? 0), 0);
  const word = others.length === 1 ? '1 other expert' : `${others.length} other experts`;
  const button = chipButton(state, 'others', word, units, others[0]);
  button.setAttribute('aria-expanded', String(state.showsOthers === true));
  button.title = `${word}: first choice for ${units} units. They carry their number. Click to list them.`;
  button.onclick = () => {
    state.showsOthers = !state.showsOthers;
    buildLegend(state);
    light(state);
  };
  return button;
}

function statusChip(state, status, count) {
  const units = count.get(status) ?? 0;
  const button = chipButton(state, status, status, units, -1);
  const what = status === 'filler' ? 'filler: an expert with free slots took them unasked' : status;
  button.title = `${what}: ${units} units. Click to light only these.`;
  button.onclick = () => chooseStatus(state, status);
  return button;
}

function changedChip(state, count) {
  const units = count.get('changed') ?? 0;
  const button = chipButton(state, 'changed', 'changed', units, -1);
  button.title = `${units} units went another way than in run A: other experts kept them, or another one first. Click to light only these.`;
  button.onclick = () => {
    state.onlyChanged = !state.onlyChanged;
    light(state);
  };
  return button;
}

// ---------------------------------------------------------------- lighting

function light(state) {
  const { experts, status, onlyChanged } = state;
  for (const button of state.part('legend').querySelectorAll('.key')) {
    const { key } = button.dataset;
    const isOn = key === status || experts.has(Number(key.slice(1))) || (key === 'changed' && onlyChanged);
    if (key !== 'others') button.setAttribute('aria-pressed', String(isOn));
  }
  const isFilter = experts.size > 0 || status !== null || onlyChanged;
  if (!isFilter && !state.isDimmed) return;
  state.isDimmed = isFilter;
  for (const [unit, element] of state.elements) {
    const { kept, status: own, changed, filler } = element.dataset;
    const isLit = (experts.size === 0 || kept.split(' ').some((expert) => kept && experts.has(Number(expert))))
      && (status === null || own === status || (status === 'filler' && filler !== undefined))
      && (!onlyChanged || changed !== undefined);
    for (const mark of state.drawing.marks(state, unit)) mark.classList.toggle('dim', !isLit);
  }
}

// ---------------------------------------------------------------- keyboard

function walkLegend(state, event) {
  const buttons = [...state.part('legend').querySelectorAll('button')];
  const place = buttons.indexOf(event.target.closest('button'));
  const steps = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: buttons.length - 1 };
  if (place < 0) return;
  if (event.key === 'p') buttons[place].parentElement.querySelector('.pin')?.click();
  else if (event.key in steps) {
    const next = buttons[steps[event.key]];
    if (!next) return;
    buttons[place].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else if (event.key === 'Enter' && (event.ctrlKey || event.shiftKey)) {
    buttons[place].dispatchEvent(new MouseEvent('click', { bubbles: true, ctrlKey: true }));
  } else return;
  event.preventDefault();
}
