// Shared by maps and strips: text of the input made visible, and elements that hold it.
// Text of the input enters the page through textContent only.

function visible(text) {
  const named = { '\n': '⏎', '\r': '␍', '\t': '⇥' };
  let shown = text.replace(/[\u0000-\u001f\ufffe\uffff]/g, (letter) => {
    return named[letter] ?? (letter < ' ' ? String.fromCharCode(0x2400 + letter.charCodeAt(0)) : '\ufffd');
  });
  shown = shown.replace(/^ +/, (spaces) => '·'.repeat(spaces.length));
  if (/^\p{M}/u.test(shown)) shown = '◌' + shown;
  return shown || '∅';
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function makeButton(className, text) {
  const button = make('button', className, text);
  button.type = 'button';
  return button;
}
