// Shared by the maps: the controls that choose the site.

const BLOCK_NAMES = { attention: 'Attention', mlp: 'MLP' };

function buildSitePicker(state) {
  const { sites } = state.routes;
  const blocks = [...new Set(sites.map((site) => site.block))];
  const buttons = blocks.map((block) => {
    const button = makeButton('block', BLOCK_NAMES[block] ?? block);
    button.dataset.block = block;
    button.onclick = () => chooseSite(state, nearestSite(state, block));
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

function nearestSite(state, block) {
  const { sites } = state.routes;
  const { layer } = sites[state.site];
  const places = sites.map((site, place) => place).filter((place) => sites[place].block === block);
  return places.reduce((best, place) =>
    Math.abs(sites[place].layer - layer) < Math.abs(sites[best].layer - layer) ? place : best);
}

function stepLayer(state, step) {
  const places = sitesOfBlock(state);
  chooseSite(state, places[places.indexOf(state.site) + step]);
}

function switchBlock(state) {
  const { sites } = state.routes;
  const blocks = [...new Set(sites.map((site) => site.block))];
  const next = blocks[(blocks.indexOf(sites[state.site].block) + 1) % blocks.length];
  chooseSite(state, nearestSite(state, next));
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
