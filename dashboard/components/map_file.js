// Shared by the maps: SVG and PNG files, built in the browser from the layout as it is drawn.

const SVG = 'http://www.w3.org/2000/svg';

function svgElement(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function hatchPattern(id, colour, size, line) {
  const pattern = svgElement('pattern', {
    id, width: size, height: size, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)',
  });
  pattern.append(svgElement('rect', { width: line, height: size, ...plainFill(colour) }));
  return pattern;
}

// Any CSS colour as the plain attributes that every SVG program reads.
function plainFill(colour) {
  const context = (plainFill.canvas ??= new OffscreenCanvas(1, 1)).getContext('2d', { willReadFrequently: true });
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
  if (alpha === 0) return { fill: 'none', 'fill-opacity': 0 };
  return { fill: `rgb(${red},${green},${blue})`, 'fill-opacity': round(alpha / 255) };
}

function fileName(state, ending) {
  const name = `${state.data.name}-${state.routes.sites[state.site].name}`;
  return `${name.replace(/[^\p{L}\p{N}._-]+/gu, '-')}.${ending}`;
}

function download(blob, name) {
  const link = make('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function drawnSvg(state) {
  const drawn = await state.drawing.file(state);
  return { blob: new Blob([new XMLSerializer().serializeToString(drawn)], { type: 'image/svg+xml' }), drawn };
}

async function saveSvg(state) {
  download((await drawnSvg(state)).blob, fileName(state, 'svg'));
}

async function savePng(state) {
  const { blob, drawn } = await drawnSvg(state);
  const width = Number(drawn.getAttribute('width'));
  const height = Number(drawn.getAttribute('height'));
  const scale = Math.min(3, 16000 / Math.max(width, height), Math.sqrt(120e6 / (width * height)));
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  const canvas = make('canvas');
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((png) => download(png, fileName(state, 'png')), 'image/png');
}

// An empty file as large as the map, with the page's background, the two hatches, and the site as its title.
function fileFrame(state, width, height) {
  const style = getComputedStyle(state.root);
  const drawn = svgElement('svg', {
    xmlns: SVG, width: round(width), height: round(height), viewBox: `0 0 ${round(width)} ${round(height)}`,
  });
  const patterns = svgElement('defs');
  const page = pageColour(state.root);
  patterns.append(hatchPattern('hatch', style.getPropertyValue('--hatch'), 6, 2), hatchPattern('gaps', page, 5, 2));
  drawn.append(patterns, svgElement('rect', { width: '100%', height: '100%', fill: page }));
  drawn.append(svgElement('text', {
    x: 2, y: 18, 'font-family': style.fontFamily, 'font-size': 15, 'font-weight': 600, ...plainFill(style.color),
  }, state.routes.sites[state.site].label));
  return drawn;
}

function copyChip(target, chip, dx, dy) {
  copyDrawn(target, chip.querySelector('.swatch'), dx, dy);
  copyText(target, chip, dx, dy);
}

// Draw an element of the page as it stands there: box, hatch, border, then its text line by line.
function copyDrawn(target, element, dx, dy) {
  const style = getComputedStyle(element);
  const { status } = element.dataset;
  const group = svgElement('g', style.opacity === '1' ? {} : { opacity: style.opacity });
  const bar = style.getPropertyValue('--fill').trim();
  for (const box of element.getClientRects()) {
    if (box.width < 1) continue;
    const place = { x: round(box.left + dx), y: round(box.top + dy), width: round(box.width), height: round(box.height) };
    const foot = { ...place, y: round(box.bottom + dy - 4), height: 4 };
    const isBar = element.classList.contains('token') && status !== 'dropped' && status !== 'unrouted';
    group.append(svgElement('rect', { ...place, rx: 3, ...plainFill(style.backgroundColor) }));
    if (isBar) group.append(svgElement('rect', { ...foot, ...plainFill(bar) }));
    if (status === 'partly dropped') group.append(svgElement('rect', { ...foot, fill: 'url(#gaps)' }));
    if (status === 'dropped') group.append(svgElement('rect', { ...place, rx: 3, fill: 'url(#hatch)' }));
    if (status === 'dropped' || status === 'unrouted') {
      const { fill, 'fill-opacity': opacity } = plainFill(style.outlineColor);
      const dash = status === 'unrouted' ? { 'stroke-dasharray': '3 2' } : {};
      group.append(svgElement('rect', { ...place, rx: 3, fill: 'none', stroke: fill, 'stroke-opacity': opacity, ...dash }));
    }
  }
  copyText(group, element, dx, dy);
  target.append(group);
}

function copyText(group, element, dx, dy) {
  const range = document.createRange();
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const style = getComputedStyle(node.parentElement);
    if (style.display === 'none') continue;
    for (const line of linesOf(node, range)) {
      if (!line.text.trim()) continue;
      const attributes = {
        x: round(line.box.left + dx),
        y: round(line.box.top + dy + line.box.height * 0.78),
        'font-family': style.fontFamily,
        'font-size': style.fontSize,
        'font-weight': style.fontWeight,
        ...plainFill(style.color),
      };
      if (line.text.length > 1) Object.assign(attributes, { textLength: round(line.box.width), lengthAdjust: 'spacingAndGlyphs' });
      group.append(svgElement('text', attributes, line.text));
    }
  }
}

function linesOf(node, range) {
  range.selectNodeContents(node);
  const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
  if (boxes.length < 2) return boxes.length ? [{ text: node.data.replace(/\n/g, ''), box: boxes[0] }] : [];
  const lines = [];
  for (let at = 0; at < node.data.length; at++) {
    if (node.data[at] === '\n') continue;
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    const box = range.getBoundingClientRect();
    const line = lines.at(-1);
    if (line && Math.abs(line.box.top - box.top) < 2) {
      line.text += node.data[at];
      line.box = new DOMRect(line.box.left, line.box.top, box.right - line.box.left, line.box.height);
    } else lines.push({ text: node.data[at], box });
  }
  return lines;
}

const round = (value) => Math.round(value * 100) / 100;
