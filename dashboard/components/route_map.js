// Shared by the maps: state of one map, colours, site picker, legend, card, pointer and keyboard.

const SEND_AFTER_MS = 250;
const mounts = new WeakMap();

// ---------------------------------------------------------------- colours

function themeOf(root) {
  const [red, green, blue] = pageColour(root).match(/[\d.]+/g).map(Number);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128 ? 'dark' : 'light';
}

function pageColour(root) {
  const probe = make('span');
  probe.style.color = 'var(--st-background-color, #ffffff)';
  root.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function applyTheme(state) {
  const theme = themeOf(state.root);
  state.root.dataset.theme = theme;
  state.root.style.setProperty('--neutral', state.data.neutral[theme]);
}

function paint(element, expert, state) {
  const colour = expert < 0 ? null : coloursOf(state)[expert];
  element.classList.toggle('neutral', expert >= 0 && !colour);
  element.style.setProperty('--fill', expert < 0 ? 'transparent' : colour ?? 'var(--neutral)');
}

function coloursOf(state) {
  return state.data.palettes[String(state.routes.sites[state.site].site_id)] ?? [];
}

// ---------------------------------------------------------------- one map: state, choice, site picker

function mountMap(component, drawing) {
  const root = component.parentElement.querySelector('.map');
  let state = mounts.get(root);
  if (!state) {
    state = { root, drawing, site: 0, unit: null, lit: null, echoes: [], part: (name) => root.querySelector(`.${name}`) };
    mounts.set(root, state);
    listen(state);
  }
  state.data = component.data;
  state.send = (choice) => component.setStateValue('choice', choice);
  const isNew = state.version !== component.data.version;
  if (isNew) {
    state.version = component.data.version;
    state.routes = readRoutes(component.data.routes);
    state.site = Math.min(state.site, Math.max(0, state.routes.sites.length - 1));
    state.unit = null;
    state.lit = null;
    state.echoes = [];
    state.wanted = undefined;
    state.wantedExpert = null;
    clearTimeout(state.timer);
  }
  applyTheme(state);
  const wanted = JSON.stringify(component.data.wanted);
  if (wanted !== state.wanted) {
    state.wanted = wanted;
    follow(state, component.data.wanted);
  }
  if (isNew) {
    buildSitePicker(state);
    drawing.build(state);
  }
  redraw(state);
  root.dataset.ready = state.version;
}

const siteId = (state) => state.routes.sites[state.site]?.site_id ?? null;

// Follow the page, unless it only repeats what was chosen here a moment ago: then the visitor may be further already.
function follow(state, wanted) {
  const echo = state.echoes.indexOf(`${wanted.site} ${wanted.unit}`);
  if (echo >= 0) state.echoes = state.echoes.slice(echo + 1);
  else {
    state.echoes = [];
    clearTimeout(state.timer);
    const site = state.routes.sites.findIndex((one) => one.site_id === wanted.site);
    if (site >= 0) state.site = site;
    state.unit = wanted.unit;
  }
  if (wanted.expert !== state.wantedExpert) state.lit = wanted.expert === null ? null : `E${wanted.expert}`;
  state.wantedExpert = wanted.expert;
}

// Every choice is numbered by the clock, so that Python hears the same choice made twice.
function tell(state, delay) {
  clearTimeout(state.timer);
  state.timer = setTimeout(() => {
    const site = siteId(state);
    state.echoes = [...state.echoes.slice(-15), `${site} ${state.unit}`];
    state.send({ site, unit: state.unit, version: state.version, turn: Date.now() });
  }, delay);
}

function chooseSite(state, site) {
  if (site === state.site || !state.routes.sites[site]) return;
  state.site = site;
  state.lit = null;
  redraw(state);
  tell(state, SEND_AFTER_MS);
}

function chooseUnit(state, unit) {
  state.unit = state.unit === unit ? null : unit;
  markChosen(state);
  tell(state, 0);
}

function markChosen(state) {
  state.part('body').querySelectorAll('[aria-selected=true]').forEach((old) => old.setAttribute('aria-selected', 'false'));
  if (state.unit !== null) state.drawing.element(state, state.unit)?.setAttribute('aria-selected', 'true');
}

function redraw(state) {
  if (!state.routes.sites.length) return;
  const site = state.routes.sites[state.site];
  state.root.dataset.site = site.site_id;
  showSite(state);
  state.drawing.recolour(state);
  buildLegend(state);
  light(state);
  markChosen(state);
}

function buildSitePicker(state) {
  const { sites } = state.routes;
  const blocks = [...new Set(sites.map((site) => site.block))];
  const names = { attention: 'Attention', mlp: 'MLP' };
  const buttons = blocks.map((block) => {
    const button = make('button', 'block', names[block] ?? block);
    button.type = 'button';
    button.dataset.block = block;
    button.onclick = () => chooseSite(state, nearestSite(state, block, sites[state.site].layer));
    return button;
  });
  state.part('blocks').replaceChildren(...buttons);
  const select = state.part('site');
  select.replaceChildren(
    ...sites.map((site, place) => {
      const option = make('option', '', site.label);
      option.value = String(site.site_id);
      option.dataset.place = place;
      return option;
    }),
  );
  select.onchange = () => chooseSite(state, Number(select.selectedOptions[0].dataset.place));
  const scrub = state.part('scrub');
  scrub.oninput = () => chooseSite(state, sitesOfBlock(state)[Number(scrub.value)]);
}

function sitesOfBlock(state) {
  const { sites } = state.routes;
  return sites.map((site, place) => place).filter((place) => sites[place].block === sites[state.site].block);
}

function nearestSite(state, block, layer) {
  const { sites } = state.routes;
  const places = sites.map((site, place) => place).filter((place) => sites[place].block === block);
  return places.reduce((best, place) =>
    Math.abs(sites[place].layer - layer) < Math.abs(sites[best].layer - layer) ? place : best);
}

function showSite(state) {
  const site = state.routes.sites[state.site];
  for (const button of state.part('blocks').children) {
    button.setAttribute('aria-pressed', String(button.dataset.block === site.block));
  }
  state.part('site').value = String(site.site_id);
  const places = sitesOfBlock(state);
  const scrub = state.part('scrub');
  scrub.max = String(places.length - 1);
  scrub.value = String(places.indexOf(state.site));
  scrub.disabled = places.length < 2;
  scrub.setAttribute('aria-valuetext', site.label);
}

// ---------------------------------------------------------------- legend and highlighting

function buildLegend(state) {
  const { routes, site } = state;
  const count = new Map();
  const add = (name) => count.set(name, (count.get(name) ?? 0) + 1);
  for (let unit = 0; unit < routes.units; unit++) {
    const place = site * routes.units + unit;
    if (routes.first_expert[place] >= 0) add(`E${routes.first_expert[place]}`);
    add(routes.statuses[routes.status[place]]);
  }
  const colours = coloursOf(state);
  const chips = [];
  const others = [];
  for (let expert = 0; expert < routes.sites[site].num_experts; expert++) {
    const units = count.get(`E${expert}`) ?? 0;
    if (colours[expert]) chips.push(legendChip(state, `E${expert}`, `E${expert}`, units, expert));
    else others.push(expert);
  }
  if (others.length) {
    const units = others.reduce((sum, expert) => sum + (count.get(`E${expert}`) ?? 0), 0);
    chips.push(legendChip(state, 'others', `${others.length} other experts`, units, others[0]));
  }
  for (const status of ['partly dropped', 'dropped', 'unrouted']) {
    const isPossible = (status === 'unrouted') === (routes.sites[site].selection === 'expert_choice');
    if (isPossible || count.get(status)) chips.push(legendChip(state, status, status, count.get(status) ?? 0, -1));
  }
  state.part('legend').replaceChildren(...chips);
}

function legendChip(state, name, text, units, expert) {
  const button = make('button', 'key');
  button.type = 'button';
  button.dataset.key = name;
  button.setAttribute('aria-pressed', String(state.lit === name));
  button.title = `${text}: first choice among those that kept it for ${units} units. Click to show all units that it took.`;
  if (expert < 0) button.title = `${text}: ${units} units. Click to show only these.`;
  const swatch = make('span', 'swatch');
  if (expert < 0) swatch.dataset.status = name;
  paint(swatch, expert, state);
  button.append(swatch, make('span', 'word', text), make('span', 'count', String(units)));
  button.onclick = () => {
    state.lit = state.lit === name ? null : name;
    for (const other of state.part('legend').children) {
      other.setAttribute('aria-pressed', String(other.dataset.key === state.lit));
    }
    light(state);
  };
  return button;
}

function light(state) {
  const { lit } = state;
  if (lit === null && !state.isDimmed) return;
  state.isDimmed = lit !== null;
  const colours = coloursOf(state);
  for (const element of state.part('body').querySelectorAll('[data-unit]')) {
    const expert = Number(element.dataset.expert);
    const isLit = lit === null || element.dataset.status === lit
      || (lit === 'others' ? expert >= 0 && !colours[expert] : element.dataset.kept.split(' ').includes(lit.slice(1)));
    element.classList.toggle('dim', !isLit);
  }
}

// ---------------------------------------------------------------- pointer, keyboard, card

function listen(state) {
  const body = state.part('body');
  const unitOf = (event) => event.target.closest?.('[data-unit]');
  body.addEventListener('click', (event) => {
    const element = unitOf(event);
    if (element) chooseUnit(state, Number(element.dataset.unit));
  });
  body.addEventListener('pointerover', (event) => {
    const element = unitOf(event);
    if (element) showCard(state, element);
    else hideCard(state);
  });
  body.addEventListener('pointerleave', () => hideCard(state));
  body.addEventListener('focusin', (event) => {
    const element = unitOf(event);
    if (element?.matches(':focus-visible')) showCard(state, element);
  });
  body.addEventListener('focusout', () => hideCard(state));
  body.addEventListener('scroll', () => hideCard(state));
  body.addEventListener('keydown', (event) => {
    const element = unitOf(event);
    if (!element) return;
    if (event.key === 'Escape') hideCard(state);
    else if (event.key === 'Enter' || event.key === ' ') chooseUnit(state, Number(element.dataset.unit));
    else {
      const next = state.drawing.neighbour(state, element, event.key);
      if (next === undefined) return;
      if (next) moveFocus(state, element, next);
    }
    event.preventDefault();
  });
  state.part('svg').onclick = () => saveSvg(state);
  state.part('png').onclick = () => savePng(state);
  state.drawing.listen?.(state);
}

function moveFocus(state, from, to) {
  from.setAttribute('tabindex', '-1');
  to.setAttribute('tabindex', '0');
  to.focus();
}

function showCard(state, element) {
  const card = state.part('card');
  const unit = Number(element.dataset.unit);
  const site = state.routes.sites[state.site];
  const route = routeOf(state.routes, state.site, unit);
  const table = make('table');
  const head = make('tr');
  for (const word of ['rank', 'expert', 'gate', 'router p', '']) head.append(make('th', '', word));
  table.append(head);
  route.rows.forEach((row, rank) => {
    const line = make('tr', row.dropped ? 'lost' : '');
    const name = make('td', 'who');
    const swatch = make('span', 'swatch');
    paint(swatch, row.expert, state);
    name.append(swatch, make('span', '', `E${row.expert}`));
    const fate = row.dropped ? `dropped: E${row.expert} was full` : 'kept';
    line.append(make('td', '', String(rank)), name, make('td', '', row.gate.toFixed(3)), make('td', '', row.score.toFixed(3)));
    line.append(make('td', 'fate', fate));
    table.append(line);
  });
  const { heading, lines } = state.drawing.card(state, unit);
  card.replaceChildren(make('div', 'heading', heading), make('div', 'where', `${site.label}: ${describe(route)}`));
  if (route.rows.length) card.append(table);
  if (route.rows.some((row) => row.inherited)) card.append(make('div', 'line', 'Decided by the first unit of its patch.'));
  for (const text of lines) card.append(make('div', 'line', text));
  if (!card.matches(':popover-open')) card.showPopover();
  const anchor = (element.getClientRects()[0] ?? element.getBoundingClientRect());
  const box = card.getBoundingClientRect();
  const below = anchor.bottom + 8 + box.height < innerHeight;
  card.style.left = `${Math.max(8, Math.min(anchor.left, innerWidth - box.width - 8))}px`;
  card.style.top = `${Math.max(8, below ? anchor.bottom + 8 : anchor.top - box.height - 8)}px`;
}

function hideCard(state) {
  const card = state.part('card');
  if (card.matches(':popover-open')) card.hidePopover();
}
