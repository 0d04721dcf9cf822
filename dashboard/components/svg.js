// SVG elements, for the picture map.

const SVG = 'http://www.w3.org/2000/svg';

const round = (value) => Math.round(value * 100) / 100;

function svgElement(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function dotPattern(id, side) {
  const step = round(side / 5);
  const pattern = svgElement('pattern', { id, width: step, height: step, patternUnits: 'userSpaceOnUse' });
  pattern.append(
    svgElement('rect', { width: step, height: step, fill: '#ffffff', 'fill-opacity': 0.85 }),
    svgElement('rect', { width: round(step / 2), height: step, fill: '#000000' }),
  );
  return pattern;
}

function hatchPattern(id, side) {
  const pattern = svgElement('pattern', {
    id,
    width: round(side / 5),
    height: round(side / 5),
    patternUnits: 'userSpaceOnUse',
    patternTransform: 'rotate(45)',
  });
  pattern.append(
    svgElement('rect', { width: round(side / 5), height: round(side / 5), fill: '#ffffff', 'fill-opacity': 0.55 }),
    svgElement('rect', { width: round(side / 12), height: round(side / 5), fill: '#000000', 'fill-opacity': 0.85 }),
  );
  return pattern;
}
