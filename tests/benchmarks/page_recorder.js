// Notes when things appear on the page and when charts and maps last changed, in milliseconds of the page's clock.
(() => {
  const roots = [document];
  const bench = { seen: {}, last: {}, watched: {}, startedAt: 0 };
  window.bench = bench;

  bench.find = (selector) => {
    for (const root of roots) {
      const found = root.querySelector(selector);
      if (found) return found;
    }
    return null;
  };
  bench.start = (watched) => {
    bench.seen = {};
    bench.last = {};
    bench.watched = watched;
    bench.startedAt = performance.now();
    look();
  };
  bench.startAtClick = (watched) => {
    document.addEventListener('mousedown', () => bench.start(watched), { capture: true, once: true });
  };

  function look() {
    const now = performance.now();
    for (const [name, selector] of Object.entries(bench.watched)) {
      if (!(name in bench.seen) && bench.find(selector)) bench.seen[name] = now - bench.startedAt;
    }
  }

  const changed = new Set();
  function kindOf(node) {
    const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
    if (!element) return node instanceof ShadowRoot ? 'map' : 'page';
    if (element.closest('.js-plotly-plot')) return 'chart';
    return element.closest('.map') ? 'map' : 'page';
  }
  function note(changes) {
    const isFirst = changed.size === 0;
    for (const change of changes) changed.add(kindOf(change.target));
    if (!isFirst) return;
    requestAnimationFrame(() => setTimeout(() => { // after this frame was laid out and painted
      const now = performance.now() - bench.startedAt;
      for (const kind of changed) bench.last[kind] = now;
      changed.clear();
      look();
    }));
  }
  const options = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(note).observe(document, options);
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (init) {
    const root = attach.call(this, init);
    roots.push(root);
    new MutationObserver(note).observe(root, options);
    return root;
  };
})();
