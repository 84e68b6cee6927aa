// Elements, numbers and JSON: what all parts of the console share.

export const $ = (id) => document.getElementById(id);

/** Returns an element. Strings among the children become text, never markup. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === 'dataset') Object.assign(made.dataset, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Returns a button, which submits no form. */
export function button(className, text, properties = {}) {
  return element('button', { type: 'button', className: `button ${className}`.trim(), ...properties }, text);
}

/** Sets a text only if it changes, so that a live region is announced once. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Returns the colour of a topic: the same name has the same colour in each browser. */
export function topicColour(name) {
  let hash = 2_166_136_261;
  for (let place = 0; place < name.length; place += 1) hash = Math.imul(hash ^ name.charCodeAt(place), 16_777_619);
  const hue = ((hash >>> 8) % 24) * 15;
  return `light-dark(oklch(0.48 0.13 ${hue}), oklch(0.8 0.1 ${hue}))`;
}

/** Returns a text with the characters that turn the direction of writing as JSON escapes, so that none reads otherwise. */
const unturned = (text) => text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (each) => (
  `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`));

/** Returns a topic's name with its colour. */
export function topicLabel(name) {
  const label = element('span', { className: 'topic' }, unturned(name));
  label.style.setProperty('--topic', topicColour(name));
  return label;
}

export const number = (value) => value.toLocaleString('en-US');

/** Returns a number of bytes for people: "3.2 KB". */
export function bytes(count) {
  if (count < 1_000) return `${count} B`;
  const steps = ['KB', 'MB', 'GB', 'TB'];
  let value = count / 1_000;
  while (value >= 1_000 && steps.length > 1) {
    value /= 1_000;
    steps.shift();
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${steps[0]}`;
}

/** Returns a number of seconds for people: "2 h 5 min". */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [Math.floor(whole / 86_400), Math.floor(whole / 3_600) % 24, Math.floor(whole / 60) % 60];
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return minutes ? `${minutes} min` : `${whole} s`;
}

/** Returns the time of day of a Date, with milliseconds. */
export function clock(when) {
  return `${when.toTimeString().slice(0, 8)}.${String(when.getMilliseconds()).padStart(3, '0')}`;
}

/** Parses JSON; numbers that JavaScript would write differently keep their digits. */
export function parse(text) {
  if (!JSON.rawJSON || !/(^|[:,[\s])-?(\d{16}|\d+[.eE]|0)/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, { source }) => (
    typeof value === 'number' && String(value) !== source ? JSON.rawJSON(source) : value));
}

/** Returns a value of `parse` as indented JSON. */
export const pretty = (value) => unturned(JSON.stringify(value, null, 2));

/** Returns JSON with a space behind each comma and colon that is not in a string. */
export function spaced(json) {
  return unturned(json).replace(/"(?:[^"\\]|\\.)*"|[,:]/g, (part) => (part === ',' || part === ':' ? `${part} ` : part));
}

/** Copies a text, and says so on the button that was pressed. Without the right to copy, selects `source`. */
export async function copy(pressed, text, source) {
  const words = (pressed.dataset.words ??= pressed.textContent);
  try {
    await navigator.clipboard.writeText(text);
    say(pressed, 'Copied');
  } catch { // not allowed, or no HTTPS
    if (source) getSelection().selectAllChildren(source);
    say(pressed, source ? 'Press Ctrl+C' : 'Not allowed');
  }
  setTimeout(say, 2_000, pressed, words);
}

/** Calls listeners by the type of what happened. */
export class Emitter {
  #listeners = new Map();

  /** Adds a listener, and returns a function that removes it. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  emit(type, ...details) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) listener(...details);
  }
}
