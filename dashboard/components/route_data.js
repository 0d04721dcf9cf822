// Shared by the maps: the route of a unit, in words and data attributes.

function readRoutes({ columns, sites, units }) {
  const { requested, dropped, expert } = columns;
  const start = new Uint32Array(requested.length + 1);
  const first = new Int32Array(requested.length).fill(-1);
  const status = new Array(requested.length);
  for (let place = 0; place < requested.length; place++) {
    const end = start[place] + requested[place];
    let kept = 0;
    for (let row = start[place]; row < end; row++) {
      if (bitAt(dropped, row)) continue;
      if (!kept) first[place] = expert[row];
      kept += 1;
    }
    start[place + 1] = end;
    if (!requested[place]) status[place] = 'unrouted';
    else if (!kept) status[place] = 'dropped';
    else status[place] = kept < requested[place] ? 'partly dropped' : 'kept';
  }
  const filled = new Uint32Array(requested.length + 1); // first row of every place among the rows of filler
  if (columns.fillers) columns.fillers.forEach((count, place) => { filled[place + 1] = filled[place] + count; });
  return { columns, sites, units, start, first, status, filled };
}

function routeOf(routes, site, unit) {
  const { columns, start, first, status, filled, units } = routes;
  const place = site * units + unit;
  const rows = [];
  for (let row = start[place]; row < start[place + 1]; row++) {
    rows.push({
      expert: columns.expert[row],
      gate: shareAt(columns.gate, row),
      score: shareAt(columns.score, row),
      dropped: bitAt(columns.dropped, row) === 1,
      inherited: bitAt(columns.inherited, row) === 1,
    });
  }
  const fillers = [...(columns.filler_expert ?? []).slice(filled[place], filled[place + 1])];
  return { status: status[place], expert: first[place], rows, fillers, margin: shareAt(columns.margin, place) };
}

// ---------------------------------------------------------------- what changed since the pinned run

function readChanges(packed, routes) {
  if (!packed) return null;
  const { columns, has_before: hasBefore } = readBase64(packed);
  const before = new Map(); // place -> experts that kept the unit in run A
  let count = 0;
  let row = 0;
  for (let place = 0; place < routes.status.length; place++) {
    if (!bitAt(columns.changed, place)) continue;
    const kept = [];
    for (const end = row + (hasBefore ? columns.requested[count] : 0); row < end; row++) {
      if (!bitAt(columns.dropped, row)) kept.push(columns.expert[row]);
    }
    before.set(place, hasBefore ? kept : null);
    count += 1;
  }
  return before;
}

const isChanged = (state, unit) => state.changes?.has(state.site * state.routes.units + unit) ?? false;

function changeInWords(state, unit, route) {
  const before = state.changes?.get(state.site * state.routes.units + unit);
  if (before === undefined) return null;
  if (before === null) return 'It went another way in run A.';
  const name = (experts) => experts.map((expert) => `E${expert}`).join(' ') || 'none';
  return `A: ${name(before)} → B: ${name(keptBy(route))}`;
}

// ---------------------------------------------------------------- words

const keptBy = (route) => route.rows.filter((row) => !row.dropped).map((row) => row.expert);

const fillersInWords = (route) => route.fillers.map((expert) => `E${expert}`).join(' ');

function describe(route) {
  const filler = route.fillers.length ? `; filler at ${fillersInWords(route)}` : '';
  return describeRequests(route) + filler;
}

function describeRequests(route) {
  const full = route.rows.filter((row) => row.dropped).map((row) => `E${row.expert}`).join(' ');
  if (route.status === 'unrouted') return 'unrouted, no expert asked';
  if (route.status === 'dropped') return `dropped, ${full} full`;
  const kept = keptBy(route).map((expert) => `E${expert}`).join(' ');
  return route.status === 'kept' ? `kept by ${kept}` : `partly dropped, kept by ${kept}, ${full} full`;
}

// What browser tests and screen readers find on every unit.
function annotate(state, element, unit, route, label) {
  const { dataset } = element;
  const changed = isChanged(state, unit);
  dataset.unit = unit;
  dataset.status = route.status;
  dataset.expert = route.expert;
  dataset.experts = route.rows.map((row) => row.expert).join(' ');
  dataset.kept = keptBy(route).join(' ');
  if (route.fillers.length) dataset.filler = route.fillers.join(' ');
  else if ('filler' in dataset) delete dataset.filler;
  if (changed) dataset.changed = '';
  else if ('changed' in dataset) delete dataset.changed;
  element.setAttribute('aria-label', `${label}, ${describe(route)}${changed ? ', changed since run A' : ''}`);
}
