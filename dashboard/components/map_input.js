// Shared by the maps: pointer and keyboard.

function listen(state) {
  const body = state.part('body');
  listenToUnits(state, body);
  body.addEventListener('scroll', () => hideCard(state));
  state.part('legend').addEventListener('keydown', (event) => walkLegend(state, event));
  const help = state.part('help');
  const keys = state.part('keys');
  help.onclick = () => {
    keys.togglePopover();
    if (keys.matches(':popover-open')) placeBeside(keys, help.getBoundingClientRect());
  };
  keys.addEventListener('toggle', (event) => help.setAttribute('aria-expanded', String(event.newState === 'open')));
  state.drawing.listen?.(state);
}

// A unit may stand in several places; the ones that only repeat it carry data-of in place of data-unit.
function listenToUnits(state, place) {
  const elementOf = (event) => event.target.closest?.('[data-unit], [data-of]');
  const unitOf = (element) => Number(element.dataset.unit ?? element.dataset.of);
  place.addEventListener('click', (event) => {
    const element = elementOf(event);
    if (element) chooseUnit(state, unitOf(element), event);
  });
  place.addEventListener('mousedown', (event) => {
    if (event.shiftKey) event.preventDefault(); // no text is marked
  });
  place.addEventListener('pointerover', (event) => {
    const element = elementOf(event);
    if (element) showCard(state, element, unitOf(element));
    else hideCard(state);
  });
  place.addEventListener('pointerleave', () => hideCard(state));
  place.addEventListener('focusin', (event) => {
    const element = elementOf(event);
    if (element?.matches(':focus-visible')) showCard(state, element, unitOf(element));
  });
  place.addEventListener('focusout', () => hideCard(state));
  place.addEventListener('keydown', (event) => {
    const element = elementOf(event);
    if (element && pressKey(state, element, event)) event.preventDefault();
  });
}

function pressKey(state, element, event) {
  const unit = Number(element.dataset.unit);
  const layers = { '[': -1, ']': 1, PageUp: -1, PageDown: 1 };
  if (event.key === 'Escape') hideCard(state);
  else if (event.key === 'Enter' || event.key === ' ') chooseUnit(state, unit, event);
  else if (event.ctrlKey || event.metaKey || event.altKey) return false;
  else if (event.key in layers || event.key === 'm') {
    if (event.key === 'm') switchBlock(state);
    else stepLayer(state, layers[event.key]);
    showCard(state, element, unit);
  } else {
    const next = state.drawing.neighbour(state, element, event.key);
    if (next === undefined) return false;
    if (next) moveFocus(element, next);
  }
  return true;
}

function moveFocus(from, to) {
  from.setAttribute('tabindex', '-1');
  to.setAttribute('tabindex', '0');
  to.focus();
}
