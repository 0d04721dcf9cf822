// The film strip of the picture map: every layer of the block as a small picture of its tints. A click chooses it.

const FRAME_PX = 40;

function buildFilm(state) {
  const film = state.part('film');
  const { sites } = state.routes;
  const had = film.contains(film.getRootNode().activeElement);
  const frames = sitesOfBlock(state).map((site) => {
    const frame = makeButton('frame-button');
    const isShown = site === state.site;
    frame.dataset.place = site;
    frame.setAttribute('aria-pressed', String(isShown));
    frame.setAttribute('aria-label', sites[site].label);
    frame.title = sites[site].label;
    frame.tabIndex = isShown ? 0 : -1;
    frame.append(tintedFrame(state, site), make('span', 'layer', `L${sites[site].layer}`));
    frame.onclick = () => chooseSite(state, site);
    return frame;
  });
  film.replaceChildren(...frames);
  const current = film.querySelector('[aria-pressed=true]');
  if (had) current?.focus();
  if (current) film.scrollLeft = current.offsetLeft - film.clientWidth / 2;
}

function tintedFrame(state, site) {
  const { rows, cols } = state.data;
  const { grid_row: gridRow, grid_col: gridCol } = state.columns;
  const canvas = make('canvas');
  canvas.height = FRAME_PX * 2;
  canvas.width = Math.max(1, Math.round((FRAME_PX * 2 * cols) / Math.max(1, rows)));
  const context = canvas.getContext('2d');
  const colours = coloursOf(state, site);
  const neutral = state.neutral[state.root.dataset.theme];
  const [width, height] = [canvas.width / cols, canvas.height / rows];
  for (let unit = 0; unit < state.routes.units; unit++) {
    if (gridRow[unit] < 0) continue;
    const place = site * state.routes.units + unit;
    const expert = state.routes.first[place];
    const [left, top] = [gridCol[unit] * width, gridRow[unit] * height];
    if (expert >= 0) {
      context.fillStyle = colours[expert] ?? neutral;
      context.fillRect(left, top, width, height);
    } else if (state.routes.status[place] === 'dropped') {
      context.strokeStyle = state.root.dataset.theme === 'dark' ? '#EEEBE8' : '#2F2D2B';
      context.lineWidth = Math.max(1, width / 10);
      context.beginPath();
      context.moveTo(left + width, top);
      context.lineTo(left, top + height);
      context.stroke();
    }
  }
  return canvas;
}

function listenToFilm(state) {
  const film = state.part('film');
  film.addEventListener('keydown', (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ']': 1, '[': -1 };
    if (event.key in steps) stepLayer(state, steps[event.key]);
    else if (event.key === 'm') switchBlock(state);
    else return;
    event.preventDefault();
  });
}
