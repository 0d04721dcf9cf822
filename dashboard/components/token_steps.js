// The steps of a generation: what the model had not written yet at a step is hidden. All in the browser.

function buildSteps(state) {
  const { is_decoded: isDecoded } = state.columns;
  state.stepOf = new Uint32Array(isDecoded.length); // 0: prefill
  state.numSteps = 0;
  isDecoded.forEach((decoded, unit) => {
    if (decoded) state.stepOf[unit] = ++state.numSteps;
  });
  state.step = state.numSteps;
  state.part('steps').hidden = state.numSteps === 0;
  state.part('step').max = String(state.numSteps);
  showStep(state);
}

function listenToSteps(state) {
  const range = state.part('step');
  range.oninput = () => chooseStep(state, Number(range.value));
  state.part('step-back').onclick = () => chooseStep(state, state.step - 1);
  state.part('step-on').onclick = () => chooseStep(state, state.step + 1);
}

function chooseStep(state, step) {
  state.step = Math.min(Math.max(0, step), state.numSteps);
  showStep(state);
  hideLater(state);
  buildLegend(state);
  light(state);
  const unit = state.stepOf.indexOf(state.step);
  if (state.step > 0) bringIntoSight(state, unit);
}

function showStep(state) {
  const { step, numSteps } = state;
  const words = step === 0 ? 'prefill' : `decode step ${step} of ${numSteps}`;
  state.part('step').value = String(step);
  state.part('step').setAttribute('aria-valuetext', words);
  state.part('step-badge').textContent = words;
  state.part('step-badge').dataset.phase = step === 0 ? 'prefill' : 'decode';
  state.part('step-back').disabled = step === 0;
  state.part('step-on').disabled = step === numSteps;
}

function hideLater(state) {
  if (!state.numSteps) return;
  for (const [unit, element] of state.elements) element.classList.toggle('later', state.stepOf[unit] > state.step);
}
