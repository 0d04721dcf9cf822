// Shared by the maps: the state of one map, what is chosen on it, and how it follows the page.

const SEND_AFTER_MS = 250; // a visitor who scrubs goes on
const MAX_IDS = 64; // as analysis.selection
const mounts = new WeakMap();

// A map is drawn as soon as it has both its run and the news of what is selected in that run, whichever comes first.
function mountMap(component, drawing) {
  const root = component.parentElement.querySelector('.map');
  let state = mounts.get(root);
  if (!state) {
    state = { root, drawing, turn: 0, part: (name) => root.querySelector(`.${name}`) };
    mounts.set(root, state);
    listen(state);
  }
  state.send = (choice) => component.setStateValue('choice', choice);
  if (state.raw === component.data) return;
  const data = readPacked(component.data);
  state.raw = component.data;
  if (state.data?.version === data.version) return;
  state.data = data;
  state.routes = readRoutes(data);
  state.columns = data.columns;
  state.isDrawn = false;
  clearTimeout(state.timer);
  const news = readNews(data.channel, (topic, value) => hearNews(state, topic, value));
  state.changes = null;
  if (news.changes) hearNews(state, 'changes', news.changes);
  if (news.selection) hearNews(state, 'selection', news.selection);
}

function hearNews(state, topic, value) {
  if (!state.root.isConnected || value.version !== state.data.version) return;
  if (topic === 'selection') follow(state, value);
  else {
    if (value.packed === (state.packedChanges ?? null)) return;
    state.packedChanges = value.packed;
    state.changes = readChanges(value.packed, state.routes);
    if (state.isDrawn) redraw(state);
  }
}

// Follow the page, unless the visitor has chosen something here that the page has not heard of yet.
function follow(state, news) {
  const isFirst = !state.isDrawn;
  const look = JSON.stringify([news.palettes, news.pinned]);
  const { site } = state;
  const looked = state.units?.at(-1);
  state.palettes = news.palettes;
  state.neutral = news.neutral;
  state.root.style.setProperty('--height', `${news.height}px`);
  if (isFirst || news.heard >= state.turn) {
    clearTimeout(state.timer);
    const place = state.routes.sites.findIndex((one) => one.site_id === news.site);
    state.site = Math.max(0, place);
    state.experts = new Set(news.experts);
    state.units = [...news.units];
    state.status = news.status;
    state.pinned = news.pinned.map((pair) => [...pair]);
  }
  if (isFirst) {
    state.turn = news.heard;
    state.onlyChanged = false;
    applyTheme(state);
    buildSitePicker(state);
    state.drawing.build(state);
  }
  const isOther = isFirst || state.site !== site || look !== state.look;
  state.look = look;
  state.isDrawn = true;
  if (isOther) redraw(state);
  else {
    light(state);
    markChosen(state);
  }
  if (state.units.length && state.units.at(-1) !== looked) state.drawing.show(state, state.units.at(-1));
  state.root.dataset.ready = state.data.version;
}

function redraw(state) {
  const site = state.routes.sites[state.site];
  if (!site) return;
  applyTheme(state);
  state.root.dataset.site = site.site_id;
  showSite(state);
  state.drawing.recolour(state);
  buildLegend(state);
  light(state);
  markChosen(state);
}

// ---------------------------------------------------------------- choices

// Every choice is numbered, so that Python hears the same one made twice, and the map knows what Python has heard.
function tell(state, delay = 0) {
  clearTimeout(state.timer);
  state.turn = Math.max(Date.now(), state.turn + 1);
  state.timer = setTimeout(() => {
    state.send({
      version: state.data.version,
      turn: state.turn,
      site: state.routes.sites[state.site].site_id,
      experts: [...state.experts],
      units: state.units,
      status: state.status,
      pinned: state.pinned,
    });
  }, delay);
}

function chooseSite(state, site) {
  if (site === state.site || !state.routes.sites[site]) return;
  state.site = site;
  state.experts.clear();
  redraw(state);
  tell(state, SEND_AFTER_MS);
}

function chooseExpert(state, expert, isMore) {
  const { experts } = state;
  const had = experts.has(expert);
  const wasAlone = experts.size === 1;
  if (!isMore) experts.clear();
  if (had && (isMore || wasAlone)) experts.delete(expert);
  else if (experts.size < MAX_IDS) experts.add(expert);
  light(state);
  tell(state);
}

function chooseStatus(state, status) {
  state.status = state.status === status ? null : status;
  light(state);
  tell(state);
}

// A click selects one unit, with Ctrl or Cmd one more, with Shift all up to it.
function chooseUnit(state, unit, event) {
  const last = state.units.at(-1);
  const had = state.units.includes(unit);
  if (event.shiftKey && last !== undefined && last !== unit) {
    const step = Math.sign(unit - last);
    const range = Array.from({ length: Math.min(Math.abs(unit - last), MAX_IDS) }, (_, place) => last + step * (place + 1));
    state.units = [...state.units.filter((one) => !range.includes(one)), ...range].slice(-MAX_IDS);
  } else if (event.ctrlKey || event.metaKey) {
    state.units = had ? state.units.filter((one) => one !== unit) : [...state.units, unit].slice(-MAX_IDS);
  } else state.units = had && state.units.length === 1 ? [] : [unit];
  markChosen(state);
  tell(state);
}

function choosePin(state, expert) {
  const site = state.routes.sites[state.site].site_id;
  const isPin = ([one, other]) => one === site && other === expert;
  if (state.pinned.some(isPin)) state.pinned = state.pinned.filter((pair) => !isPin(pair));
  else if (state.pinned.length < MAX_IDS) state.pinned = [...state.pinned, [site, expert]];
  buildLegend(state);
  tell(state);
}

function markChosen(state) {
  for (const old of state.root.querySelectorAll('[aria-selected=true]')) old.setAttribute('aria-selected', 'false');
  for (const unit of state.units) {
    for (const element of state.drawing.marks(state, unit)) element.setAttribute('aria-selected', 'true');
  }
}

// ---------------------------------------------------------------- colours

function applyTheme(state) {
  const probe = make('span');
  probe.style.color = 'var(--st-background-color, #ffffff)';
  state.root.append(probe);
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  const theme = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128 ? 'dark' : 'light';
  state.root.dataset.theme = theme;
  state.root.style.setProperty('--neutral', state.neutral[theme]);
}

function coloursOf(state, site = state.site) {
  return state.palettes[String(state.routes.sites[site].site_id)] ?? {};
}

function paint(element, expert, state) {
  const colour = expert < 0 ? null : coloursOf(state)[expert];
  element.classList.toggle('neutral', expert >= 0 && !colour);
  element.style.setProperty('--fill', expert < 0 ? 'transparent' : colour ?? 'var(--neutral)');
}
