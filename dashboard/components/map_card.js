// Shared by the maps: the card with the whole route of a unit at the site.

function showCard(state, element, unit) {
  const card = state.part('card');
  const site = state.routes.sites[state.site];
  const route = routeOf(state.routes, state.site, unit);
  const { heading, lines } = state.drawing.card(state, unit);
  card.replaceChildren(make('div', 'heading', heading), make('div', 'where', `${site.label}: ${describe(route)}`));
  if (route.rows.length) card.append(routeTable(state, route));
  const line = (text) => card.append(make('div', 'line', text));
  if (!Number.isNaN(route.margin)) line(`Margin ${route.margin.toFixed(3)} between the two most probable experts.`);
  else line(`Margin unknown: ${site.margin_unknown || 'it was not recorded'}.`);
  if (route.fillers.length) {
    line(`Filler at ${fillersInWords(route)}: it did not ask, sits in a free slot, and gets that expert's output all the same.`);
  }
  const change = changeInWords(state, unit, route);
  if (change) line(change);
  if (route.rows.some((row) => row.inherited)) line('Decided by the first unit of its patch.');
  lines.forEach(line);
  if (!card.matches(':popover-open')) card.showPopover();
  placeBeside(card, element.getClientRects()[0] ?? element.getBoundingClientRect());
}

function routeTable(state, route) {
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
    const gate = row.dropped ? 0 : row.gate;
    line.append(make('td', '', String(rank)), name, make('td', '', gate.toFixed(3)), make('td', '', row.score.toFixed(3)));
    line.append(make('td', 'fate', fate));
    table.append(line);
  });
  return table;
}

function placeBeside(popover, anchor) {
  const box = popover.getBoundingClientRect();
  const below = anchor.bottom + 8 + box.height < innerHeight;
  popover.style.left = `${Math.max(8, Math.min(anchor.left, innerWidth - box.width - 8))}px`;
  popover.style.top = `${Math.max(8, below ? anchor.bottom + 8 : anchor.top - box.height - 8)}px`;
}

function hideCard(state) {
  const card = state.part('card');
  if (card.matches(':popover-open')) card.hidePopover();
}
