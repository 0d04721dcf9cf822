// Reads what `analysis.figures.packed_columns.pack` wrote: a JSON header, then columns.

const UNKNOWN = 65535;

function readPacked(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const data = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  const kinds = { Uint8Array, Uint16Array, Uint32Array, Int8Array, Int16Array, Int32Array, Float32Array };
  for (const [name, [kind, first, length, low, high]] of Object.entries(data.columns)) {
    const start = 4 + size + first;
    const values = new kinds[kind](bytes.slice(start, start + length * kinds[kind].BYTES_PER_ELEMENT).buffer);
    data.columns[name] = low === undefined ? values : { values, low, step: (high - low) / (UNKNOWN - 1) };
  }
  return data;
}

function readBase64(text) {
  return readPacked(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
}

// A number of a column of shares; NaN: unknown.
function shareAt(column, place) {
  if (!column || column.values[place] === UNKNOWN) return NaN;
  return column.low + column.values[place] * column.step;
}

function bitAt(bits, place) {
  return (bits[place >> 3] >> (place & 7)) & 1;
}
