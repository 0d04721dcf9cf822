// Where signals leave news for the maps and the strips, per channel and topic; whoever comes later finds it there.
// Every component is a module of its own, so the board hangs on the page.

const board = (globalThis[Symbol.for('uoe-map-board')] ??= { news: new Map(), readers: new Map() });

function postNews(channel, topic, value) {
  const news = board.news.get(channel) ?? {};
  board.news.set(channel, { ...news, [topic]: value });
  board.readers.get(channel)?.(topic, value);
}

function readNews(channel, reader) {
  board.readers.set(channel, reader);
  return board.news.get(channel) ?? {};
}
