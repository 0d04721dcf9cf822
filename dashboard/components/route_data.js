// Shared by the maps: packed columns, the route of a unit in words and data attributes, text made visible.
// Text of the input enters the page and the files through textContent only.

const ROW_DROPPED = 1;
const ROW_INHERITED = 2;

function unpack({ array, base64 }) {
  const kinds = { Uint8Array, Uint16Array, Uint32Array, Int16Array, Int32Array, Float32Array };
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new kinds[array](bytes.buffer);
}

function readRoutes(packed) {
  const columns = ['row_start', 'expert', 'gate', 'score', 'flags', 'status', 'first_expert'];
  const routes = { sites: packed.sites, statuses: packed.statuses };
  for (const name of columns) routes[name] = unpack(packed[name]);
  routes.units = packed.sites.length ? routes.status.length / packed.sites.length : 0;
  return routes;
}

function routeOf(routes, site, unit) {
  const place = site * routes.units + unit;
  const rows = [];
  for (let row = routes.row_start[place]; row < routes.row_start[place + 1]; row++) {
    rows.push({
      expert: routes.expert[row],
      gate: routes.gate[row],
      score: routes.score[row],
      dropped: (routes.flags[row] & ROW_DROPPED) !== 0,
      inherited: (routes.flags[row] & ROW_INHERITED) !== 0,
    });
  }
  return { status: routes.statuses[routes.status[place]], expert: routes.first_expert[place], rows };
}

function describe(route) {
  const full = route.rows.filter((row) => row.dropped).map((row) => `E${row.expert}`).join(' ');
  if (route.status === 'unrouted') return 'unrouted, no expert asked';
  if (route.status === 'dropped') return `dropped, ${full} full`;
  const kept = route.rows.filter((row) => !row.dropped).map((row) => `E${row.expert}`).join(' ');
  return route.status === 'kept' ? `kept by ${kept}` : `partly dropped, kept by ${kept}, ${full} full`;
}

// What browser tests and screen readers find on every unit.
function annotate(element, unit, route, label) {
  element.dataset.unit = unit;
  element.dataset.status = route.status;
  element.dataset.expert = route.expert;
  element.dataset.experts = route.rows.map((row) => row.expert).join(' ');
  element.dataset.kept = route.rows.filter((row) => !row.dropped).map((row) => row.expert).join(' ');
  element.setAttribute('aria-label', `${label}, ${describe(route)}`);
}

function visible(text) {
  const named = { '\n': '⏎', '\r': '␍', '\t': '⇥' };
  let shown = text.replace(/[\u0000-\u001f\ufffe\uffff]/g, (letter) => {
    return named[letter] ?? (letter < ' ' ? String.fromCharCode(0x2400 + letter.charCodeAt(0)) : '\ufffd');
  });
  shown = shown.replace(/^ +/, (spaces) => '·'.repeat(spaces.length));
  if (/^\p{M}/u.test(shown)) shown = '◌' + shown;
  return shown || '∅';
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
