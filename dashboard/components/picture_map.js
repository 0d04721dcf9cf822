// The picture map: the cells of a picture, tinted by the expert that kept them, with the expert's number printed.

const pictureDrawing = {
  build(state) {
    const { data } = state;
    const boxes = unpack(data.box);
    state.columns = { grid_row: unpack(data.grid_row), grid_col: unpack(data.grid_col) };
    state.boxes = (unit) => Array.from(boxes.subarray(4 * unit, 4 * unit + 4));
    state.model = false;
    state.part('model').checked = false;
    // One box for both views, as tall as the original needs: nothing jumps while the picture loads or the view changes.
    const ratio = Math.min(3, Math.max(0.5, data.width / data.height));
    state.part('stage').style.aspectRatio = String(ratio);
    state.part('stage').style.maxWidth = `min(100%, calc(var(--stage-height) * ${ratio}))`;
    buildCells(state);
  },

  listen(state) {
    state.part('model').onchange = (event) => {
      state.model = event.target.checked;
      buildCells(state);
      redraw(state);
    };
    state.part('tint-slider').oninput = (event) => state.root.style.setProperty('--tint', event.target.value / 100);
  },

  recolour(state) {
    for (const [unit, cell] of state.elements) {
      const route = routeOf(state.routes, state.site, unit);
      annotate(cell, unit, route, nameOf(state, unit));
      paint(cell, route.expert, state);
      cell.querySelector('text').textContent = route.expert < 0 ? '' : String(route.expert);
    }
  },

  element(state, unit) {
    return state.elements.get(unit);
  },

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
    const box = state.boxes(unit);
    const place = Number.isNaN(box[0])
      ? 'In the padding: this cell has no place in the picture.'
      : `Pixels ${box.map((value) => Math.round(value)).join(', ')} (left, top, right, bottom)`;
    return { heading: nameOf(state, unit), lines: [place] };
  },

  async file(state) {
    const source = state.part('overlay');
    const [, , width, height] = source.getAttribute('viewBox').split(' ').map(Number);
    const legend = state.part('legend');
    const legendBox = legend.getBoundingClientRect();
    const shown = source.getBoundingClientRect();
    const scale = Math.min(shown.width / width, shown.height / height);
    const top = 28 + legendBox.height + 6;
    const drawn = fileFrame(state, Math.max(legendBox.width, width * scale) + 2, top + height * scale + 2);
    for (const chip of legend.querySelectorAll('.key')) copyChip(drawn, chip, -legendBox.left, 28 - legendBox.top);
    const inner = svgElement('svg', { x: 1, y: round(top), width: round(width * scale), height: round(height * scale) });
    inner.setAttribute('viewBox', `0 0 ${width} ${height}`);
    inner.append(svgElement('image', {
      href: state.model ? state.data.model_picture : state.data.picture,
      width,
      height,
      preserveAspectRatio: 'none',
      style: state.model ? 'image-rendering: pixelated' : '',
    }));
    for (const child of source.children) inner.append(frozenCopy(child));
    drawn.append(inner);
    return drawn;
  },
};

function nameOf(state, unit) {
  const { grid_row: rows, grid_col: cols } = state.columns;
  return rows[unit] < 0 ? `unit ${unit}` : `cell in row ${rows[unit]}, column ${cols[unit]}`;
}

function buildCells(state) {
  const { data, columns } = state;
  const size = state.model ? { width: data.cols * 100, height: data.rows * 100 } : data;
  const drawn = document.createDocumentFragment();
  const side = state.model ? 100 : Math.sqrt((size.width * size.height) / Math.max(1, data.rows * data.cols));
  drawn.append(cellPatterns(side));
  state.elements = new Map();
  const seen = [Infinity, Infinity, -Infinity, -Infinity];
  for (let unit = 0; unit < state.routes.units; unit++) {
    const [row, col] = [columns.grid_row[unit], columns.grid_col[unit]];
    if (row < 0) continue;
    const box = state.model ? [col * 100, row * 100, col * 100 + 100, row * 100 + 100] : state.boxes(unit);
    if (Number.isNaN(box[0])) continue;
    for (const axis of [0, 1]) seen[axis] = Math.min(seen[axis], box[axis]);
    for (const axis of [2, 3]) seen[axis] = Math.max(seen[axis], box[axis]);
    const cell = buildCell(box);
    cell.setAttribute('tabindex', state.elements.size ? '-1' : '0');
    state.elements.set(unit, cell);
    drawn.append(cell);
  }
  if (state.elements.size) drawn.prepend(outside(size, seen));
  const overlay = state.part('overlay');
  overlay.setAttribute('viewBox', `0 0 ${size.width} ${size.height}`);
  overlay.replaceChildren(drawn);
  const picture = state.part('picture');
  picture.src = state.model ? data.model_picture : data.picture;
  picture.classList.toggle('pixels', state.model);
  state.part('stage').style.setProperty('--shape', `${size.width} / ${size.height}`);
  const hidden = state.routes.units - state.elements.size;
  state.part('hidden-cells').textContent = hidden === 0 ? ''
    : `${hidden} of ${state.routes.units} cells have no place in the picture (padding); “what the model saw” shows them.`;
}

// Corner to corner in the units of the view box; strokes lie inside the cell so that neighbours do not mix.
function buildCell([left, top, right, bottom]) {
  const [width, height] = [right - left, bottom - top];
  const line = Math.min(width, height) * 0.05;
  const cell = svgElement('g', { class: 'cell', role: 'option', 'aria-selected': 'false' });
  const area = { x: round(left), y: round(top), width: round(width), height: round(height) };
  const inner = {
    x: round(left + line / 2), y: round(top + line / 2), width: round(width - line), height: round(height - line),
  };
  cell.append(
    svgElement('rect', { class: 'tint', ...area }),
    svgElement('rect', { class: 'hatch', ...area }),
    svgElement('rect', { class: 'foot', ...area, y: round(bottom - height * 0.16), height: round(height * 0.16) }),
    svgElement('rect', { class: 'frame', ...inner, 'stroke-width': round(line) }),
    svgElement('text', {
      x: round((left + right) / 2),
      y: round((top + bottom) / 2),
      'font-size': round(Math.min(width, height) * 0.38),
      'stroke-width': round(Math.min(width, height) * 0.07),
    }),
  );
  return cell;
}

function cellPatterns(side) {
  const patterns = svgElement('defs');
  const hatch = svgElement('pattern', {
    id: 'cell-hatch',
    width: round(side / 5),
    height: round(side / 5),
    patternUnits: 'userSpaceOnUse',
    patternTransform: 'rotate(45)',
  });
  hatch.append(
    svgElement('rect', { width: round(side / 5), height: round(side / 5), fill: '#ffffff', 'fill-opacity': 0.55 }),
    svgElement('rect', { width: round(side / 12), height: round(side / 5), fill: '#000000', 'fill-opacity': 0.85 }),
  );
  patterns.append(hatch);
  return patterns;
}

function outside(size, [left, top, right, bottom]) {
  const whole = `M0 0H${size.width}V${size.height}H0Z`;
  return svgElement('path', {
    class: 'outside',
    'fill-rule': 'evenodd',
    d: `${whole}M${left} ${top}V${bottom}H${right}V${top}Z`,
  });
}

// A copy that carries the drawn colours itself, because a file has no style sheet.
function frozenCopy(element) {
  const copy = element.cloneNode(false);
  for (const name of ['class', 'tabindex', 'style', 'role', 'aria-selected']) copy.removeAttribute(name);
  if (element instanceof SVGGraphicsElement) {
    const style = getComputedStyle(element);
    if (style.display === 'none') return document.createDocumentFragment();
    const names = ['fill', 'fill-opacity', 'stroke', 'stroke-dasharray', 'paint-order', 'opacity', 'font-family',
      'font-weight', 'text-anchor', 'dominant-baseline', 'stroke-linejoin'];
    if (element.tagName !== 'g') for (const name of names) copy.setAttribute(name, style.getPropertyValue(name));
    else copy.setAttribute('opacity', style.opacity);
  }
  if (element.tagName === 'text') copy.textContent = element.textContent;
  else for (const child of element.children) copy.append(frozenCopy(child));
  return copy;
}

export default function (component) {
  mountMap(component, pictureDrawing);
}
