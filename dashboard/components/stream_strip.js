// A text while it is being written: grows at its end, coloured by the expert of every token at one site.

const mounts = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector('.stream');
  let state = mounts.get(root);
  if (!state) {
    state = { root, words: root.querySelector('.words'), count: 0, tokens: [] };
    mounts.set(root, state);
  }
  const news = readNews(data.channel, (topic, value) => write(state, value));
  if (news.stream) write(state, news.stream);
}

function write(state, { label, tokens, experts, written, colours, done }) {
  const { root, words } = state;
  root.querySelector('.label').textContent = label;
  root.classList.toggle('done', done);
  const isAtEnd = words.scrollTop + words.clientHeight >= words.scrollHeight - 40;
  if (tokens.length < state.count || tokens[0] !== state.first) {
    words.replaceChildren(make('span', 'caret'));
    state.count = 0;
    [state.first] = tokens;
  }
  const grown = tokens.slice(state.count).flatMap((token, place) => {
    const at = state.count + place;
    const expert = experts[at] ?? -1;
    const word = make('span', 'word', visible(token).replace(/⏎/g, '⏎\n'));
    word.dataset.expert = expert;
    word.classList.toggle('written', at >= written);
    word.classList.toggle('nobody', expert < 0);
    word.style.setProperty('--fill', expert < 0 ? 'transparent' : colours[expert] ?? 'var(--neutral)');
    word.title = expert < 0 ? 'no expert kept it' : `E${expert}`;
    if (expert >= 0 && !colours[expert]) word.append(make('sub', '', String(expert)));
    return token.startsWith(' ') ? [make('wbr'), word] : [word];
  });
  words.lastChild.before(...grown);
  state.count = tokens.length;
  if (isAtEnd) words.scrollTop = words.scrollHeight;
}
