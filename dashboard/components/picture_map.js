// The picture map: the cells of a picture, tinted by the expert that kept them, with the expert's number printed.

const pictureDrawing = {
  build(state) {
    const { data } = state;
    // As tall as the original needs from the start: nothing jumps while the picture loads.
    const ratio = Math.min(3, Math.max(0.5, data.width / data.height));
    state.root.style.setProperty('--ratio', String(ratio));
    state.root.style.setProperty('--grid-ratio', String(data.cols / Math.max(1, data.rows)));
    state.part('picture').src = data.picture;
    state.part('seen').src = data.model_picture;
    buildCells(state);
    buildTwins(state);
  },

  listen(state) {
    const showModel = () => state.root.classList.toggle('no-model', !state.part('model').checked);
    state.part('model').onchange = showModel;
    showModel();
    state.part('tint-slider').oninput = (event) => state.root.style.setProperty('--tint', event.target.value / 100);
    listenToUnits(state, state.part('twins'));
    listenToFilm(state);
  },

  recolour(state) {
    for (const [unit, cell] of state.elements) {
      const route = routeOf(state.routes, state.site, unit);
      annotate(state, cell, unit, route, nameOf(state, unit));
      for (const mark of this.marks(state, unit)) {
        mark.dataset.status = route.status;
        mark.classList.toggle('filled', route.fillers.length > 0);
        paint(mark, route.expert, state);
      }
      const number = cell.querySelector('text');
      if (number) number.textContent = route.expert < 0 ? '' : String(route.expert);
    }
    buildFilm(state);
  },

  marks: (state, unit) => [state.elements.get(unit), state.twins.get(unit)].filter(Boolean),

  show() {},

  neighbour(state, element, key) {
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const { grid_row: rows, grid_col: cols } = state.columns;
    if (key === 'Home') return state.elements.values().next().value;
    if (key === 'End') return [...state.elements.values()].at(-1);
    if (!(key in steps)) return undefined;
    const unit = Number(element.dataset.unit);
    const [row, col] = [rows[unit] + steps[key][0], cols[unit] + steps[key][1]];
    for (const [other, cell] of state.elements) if (rows[other] === row && cols[other] === col) return cell;
    return null;
  },

  card(state, unit) {
    const box = boxOf(state, unit);
    const place = Number.isNaN(box[0])
      ? 'In the padding: this cell has no place in the picture.'
      : `Pixels ${box.map((value) => Math.round(value)).join(', ')} (left, top, right, bottom)`;
    return { heading: nameOf(state, unit), lines: [place] };
  },
};

const boxOf = (state, unit) => Array.from(state.columns.box.subarray(4 * unit, 4 * unit + 4));

function nameOf(state, unit) {
  const { grid_row: rows, grid_col: cols } = state.columns;
  return rows[unit] < 0 ? `unit ${unit}` : `cell in row ${rows[unit]}, column ${cols[unit]}`;
}

function asOption(element, isFirst) {
  element.setAttribute('role', 'option');
  element.setAttribute('aria-selected', 'false');
  element.setAttribute('tabindex', isFirst ? '0' : '-1');
  return element;
}

// ---------------------------------------------------------------- over the original

function buildCells(state) {
  const { data, routes } = state;
  const drawn = document.createDocumentFragment();
  const patterns = svgElement('defs');
  const side = Math.sqrt((data.width * data.height) / Math.max(1, data.rows * data.cols));
  patterns.append(hatchPattern('cell-hatch', side), dotPattern('cell-dots', side));
  drawn.append(patterns);
  state.elements = new Map();
  const seen = [Infinity, Infinity, -Infinity, -Infinity];
  for (let unit = 0; unit < routes.units; unit++) {
    const box = boxOf(state, unit);
    if (state.columns.grid_row[unit] < 0 || Number.isNaN(box[0])) continue;
    for (const axis of [0, 1]) seen[axis] = Math.min(seen[axis], box[axis]);
    for (const axis of [2, 3]) seen[axis] = Math.max(seen[axis], box[axis]);
    const cell = asOption(buildCell(box), state.elements.size === 0);
    state.elements.set(unit, cell);
    drawn.append(cell);
  }
  if (state.elements.size) drawn.prepend(outside(data, seen));
  const overlay = state.part('overlay');
  overlay.setAttribute('viewBox', `0 0 ${data.width} ${data.height}`);
  overlay.replaceChildren(drawn);
  const hidden = routes.units - state.elements.size;
  const note = state.part('hidden-cells');
  note.hidden = hidden === 0;
  note.textContent = `${hidden} of ${routes.units} cells have no place in the picture (padding); they are only in what the model saw.`;
}

// Corner to corner in the units of the view box; strokes lie inside the cell so that neighbours do not mix.
function buildCell([left, top, right, bottom]) {
  const [width, height] = [right - left, bottom - top];
  const side = Math.min(width, height);
  const line = side * 0.05;
  const cell = svgElement('g', { class: 'cell' });
  const area = { x: round(left), y: round(top), width: round(width), height: round(height) };
  const inner = {
    x: round(left + line / 2), y: round(top + line / 2), width: round(width - line), height: round(height - line),
  };
  cell.append(
    svgElement('rect', { class: 'tint', ...area }),
    svgElement('rect', { class: 'hatch', ...area }),
    svgElement('rect', { class: 'foot', ...area, y: round(bottom - height * 0.16), height: round(height * 0.16) }),
    svgElement('rect', { class: 'frame', ...inner, 'stroke-width': round(line) }),
    svgElement('rect', { class: 'dots', ...area, height: round(height * 0.1) }),
    svgElement('path', { class: 'corner', d: corner(right, top, side * 0.28), 'stroke-width': round(line / 2) }),
    svgElement('text', {
      x: round((left + right) / 2),
      y: round((top + bottom) / 2),
      'font-size': round(side * 0.38),
      'stroke-width': round(side * 0.07),
    }),
  );
  return cell;
}

const corner = (right, top, size) => `M${round(right - size)} ${round(top)}H${round(right)}V${round(top + size)}Z`;

function outside(size, [left, top, right, bottom]) {
  const whole = `M0 0H${size.width}V${size.height}H0Z`;
  return svgElement('path', {
    class: 'outside',
    'fill-rule': 'evenodd',
    d: `${whole}M${left} ${top}V${bottom}H${right}V${top}Z`,
  });
}

// ---------------------------------------------------------------- over what the model saw

// One square per cell. A cell without a place in the original is a full option here; the others repeat theirs.
function buildTwins(state) {
  const { data, columns, routes } = state;
  const drawn = document.createDocumentFragment();
  const patterns = svgElement('defs');
  patterns.append(hatchPattern('twin-hatch', 100), dotPattern('twin-dots', 100));
  drawn.append(patterns);
  state.twins = new Map();
  for (let unit = 0; unit < routes.units; unit++) {
    if (columns.grid_row[unit] < 0) continue;
    const [left, top] = [columns.grid_col[unit] * 100, columns.grid_row[unit] * 100];
    const twin = svgElement('g', { class: 'twin' });
    twin.append(
      svgElement('rect', { class: 'tint', x: left, y: top, width: 100, height: 100 }),
      svgElement('rect', { class: 'hatch', x: left, y: top, width: 100, height: 100 }),
      svgElement('rect', { class: 'frame', x: left + 4, y: top + 4, width: 92, height: 92, 'stroke-width': 8 }),
      svgElement('rect', { class: 'dots', x: left, y: top, width: 100, height: 14 }),
    );
    if (state.elements.has(unit)) {
      twin.dataset.of = unit;
      state.twins.set(unit, twin);
    } else state.elements.set(unit, asOption(twin, state.elements.size === 0));
    drawn.append(twin);
  }
  const overlay = state.part('twins');
  overlay.setAttribute('viewBox', `0 0 ${data.cols * 100} ${data.rows * 100}`);
  overlay.replaceChildren(drawn);
  const options = { role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': 'Cells as the model saw them' };
  const isOwn = overlay.querySelector('[role=option]') !== null; // else it only repeats what stands on the left
  overlay.setAttribute('aria-hidden', String(!isOwn));
  for (const [name, value] of Object.entries(options)) {
    if (isOwn) overlay.setAttribute(name, value);
    else overlay.removeAttribute(name);
  }
}

export default function (component) {
  mountMap(component, pictureDrawing);
}
