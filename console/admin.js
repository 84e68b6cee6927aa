// What the views Topics, Nodes, Connections and History share: tables that are refreshed in place,
// pages, and the reasons why a call has failed.

import { js, py, quote, rest, withClient } from './code.js';
import { element, say } from './dom.js';

const RETRY_AFTER = 5; // s, if the server does not say when the same may succeed

/** A table whose rows keep their elements, and so focus, selection and scroll, when they change. */
export class Grid {
  #keyOf;
  #makeRow;
  #rows = new Map(); // key: {line, update}
  #body = element('tbody');
  #head;

  /**
   * `columns` are {title, className}, of the cells of the head.
   * `keyOf(item)` returns what identifies a row, and `makeRow(item)` its `line`, a tr, with
   * `update(item)`. The order of the rows must not depend on what changes.
   */
  constructor(label, columns, keyOf, makeRow) {
    this.#keyOf = keyOf;
    this.#makeRow = makeRow;
    this.#head = element('tr', {}, ...columns.map(({ title, className = '' }) => (
      element('th', { scope: 'col', className }, title))));
    const table = element('table', { className: 'grid', ariaLabel: label }, element('thead', {}, this.#head), this.#body);
    this.element = element('div', { className: 'card scroll', hidden: true, tabIndex: 0, role: 'group', ariaLabel: `${label}, table` }, table);
  }

  /** Shows these items and no others. A focus on a row that goes moves to the row in its place. */
  show(items) {
    const wanted = new Map(items.map((item) => [this.#keyOf(item), item]));
    const focus = this.#focus();
    for (const [key, { line }] of this.#rows) {
      if (wanted.has(key)) continue;
      line.remove();
      this.#rows.delete(key);
    }
    let next = this.#body.firstChild;
    for (const [key, item] of wanted) {
      const known = this.#rows.get(key);
      const row = known ?? this.#makeRow(item);
      if (!known) this.#rows.set(key, row);
      row.update(item);
      if (row.line === next) next = next.nextSibling;
      else this.#body.insertBefore(row.line, next);
    }
    this.element.hidden = wanted.size === 0;
    this.#refocus(focus);
  }

  get size() {
    return this.#rows.size;
  }

  #focus() {
    const line = document.activeElement?.closest('tr');
    if (!line || line.parentElement !== this.#body) return null;
    return { line, place: line.sectionRowIndex, act: document.activeElement.dataset.act };
  }

  #refocus(focus) {
    if (!focus || focus.line.isConnected) return;
    const line = this.#body.rows[Math.min(focus.place, this.#body.rows.length - 1)];
    const instead = line?.querySelector(`[data-act="${focus.act}"]`) ?? this.element;
    (this.element.hidden ? this.element.closest('.view').querySelector('input') : instead)?.focus();
  }
}

/** Returns a cell of a row. A label is shown on phones, where the columns have no titles. */
export function cell(className, content = '', label = '') {
  return element('td', { className, dataset: label ? { label } : {} }, content);
}

/** Shows a mark, or no mark if the text is empty. */
export function mark(badge, text) {
  badge.hidden = !text;
  say(badge, text);
}

/** Loads what a view shows while the view is open, and shows why it cannot. */
export class Loader {
  #app;
  #every;
  #pauseFactor;
  #ask;
  #show;
  #need;
  #clear;
  #newest = 0; // the number of the newest request
  #due = 0; // the time of the next request
  #off = [];
  #shown = false; // whether an answer is shown

  /**
   * @param {object} app  of the shell
   * @param {number} every  ms between two requests
   * @param {number} [pauseFactor]  the pause between two requests is at least so many times as long as the first took
   * @param {() => Promise<*>} ask  makes the request
   * @param {(answer: *) => void} show  draws its answer
   * @param {() => [string, string]} need  the right that the request needs, as a verb and a pattern of topics
   * @param {() => void} clear  removes what an earlier answer has shown
   */
  constructor(app, { every, pauseFactor = 0, ask, show, need, clear }) {
    this.#app = app;
    this.#every = every;
    this.#pauseFactor = pauseFactor;
    this.#ask = ask;
    this.#show = show;
    this.#need = need;
    this.#clear = clear;
    this.notice = element('div', { className: 'notice', role: 'status', hidden: true });
  }

  start() {
    this.stop();
    this.#due = 0;
    this.#off = [
      this.#app.on('token', () => this.now()),
      this.#app.poll(this.#every, () => (performance.now() < this.#due ? null : this.#load())),
    ];
  }

  stop() {
    this.#newest += 1; // an answer that is on its way is not shown
    for (const off of this.#off.splice(0)) off();
  }

  /** Asks again at once. */
  now() {
    if (this.#off.length) return this.#load();
  }

  async #load() {
    const started = performance.now();
    const own = (this.#newest += 1);
    this.#due = Infinity; // not twice at a time
    try {
      const answer = await this.#ask();
      if (own !== this.#newest) return;
      this.#due = performance.now() + (performance.now() - started) * this.#pauseFactor - this.#every;
      this.#tell();
      this.#show(answer);
      this.#shown = true;
    } catch (error) {
      if (error.name !== 'CallError') throw error;
      if (own === this.#newest) this.#fail(error);
    }
  }

  #fail(error) {
    const { status, retryAfter } = error;
    const refused = status === 401 || status === 403;
    const soon = status === 0 || status >= 500 || status === 429;
    this.#due = refused ? Infinity : performance.now() + (status === 0 ? 0 : (retryAfter ?? RETRY_AFTER) * 1_000);
    if (!soon) this.#clear();
    this.#shown &&= soon;
    this.#tell(error.message, refused ? tokenFor(...this.#need()) : soon ? [this.#shown ? 'What is shown is old. Asking again.' : 'Asking again.'] : []);
  }

  #tell(text = '', advice = []) {
    this.notice.hidden = !text;
    this.notice.closest('.view')?.toggleAttribute('data-stale', text !== '');
    if (this.notice.dataset.text === text) return; // announced once
    this.notice.dataset.text = text;
    const parts = text ? [element('p', { className: 'bad' }, text), element('p', { className: 'soft' }, ...advice)] : [];
    this.notice.replaceChildren(...parts);
  }
}

/** Returns words that say how one gets a right. */
export function tokenFor(verb, pattern) {
  const command = `python server.py token --sub=ops --${verb}=${quote(pattern)}`;
  return [`This needs the right ${verb} of '${pattern}'. Make a token that has it, and enter it in the settings:`, element('code', { className: 'command' }, command)];
}

/** Returns a GET in each language; Python and JavaScript use the clients' method of this name. */
export function reading(path, method, positional, params) {
  const given = Object.entries(params).filter(([, value]) => value !== '' && value !== undefined);
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  const named = given.map(([name, value]) => `${name}=${py(value)}`);
  const options = Object.fromEntries(given.map(([name, value]) => [camel(name), value]));
  return {
    ...withClient({
      python: `print(await client.${method}(${[...positional.map((it) => py(it)), ...named].join(', ')}))`,
      js: `console.log(await client.${method}(${[...positional, options].map((it) => js(it)).join(', ')}));`,
    }),
    curl: rest('GET', path).curl,
  };
}

/** The buttons below a list that comes in pages: `after` is where the page begins, `next` where the next one does. */
export class Pager {
  #first;
  #previous;
  #next;
  #pages = ['']; // where the pages begin that were shown, in order
  #place = 0; // of the page that is shown
  #following = '';

  /** `open(after)` opens the page that begins there; '' is the first one. */
  constructor(open) {
    const turn = (text, act, go) => element('button', { type: 'button', className: 'button', dataset: { act }, onclick: go }, text);
    this.#first = turn('First page', 'first', () => open(''));
    this.#previous = turn('Previous', 'previous', () => open(this.#pages[this.#place - 1]));
    this.#next = turn('Next', 'next', () => {
      this.#pages = [...this.#pages.slice(0, this.#place + 1), this.#following];
      open(this.#following);
    });
    this.element = element('nav', { className: 'pager', ariaLabel: 'Pages', hidden: true }, this.#first, this.#previous, this.#next);
  }

  show(after, following) {
    if (!this.#pages.includes(after)) this.#pages = [after];
    this.#place = this.#pages.indexOf(after);
    this.#following = following;
    this.#first.disabled = !after;
    this.#previous.disabled = this.#place === 0;
    this.#next.disabled = !following;
    this.element.hidden = !after && !following;
  }
}

/** Returns the path of a topic. Browsers cannot send the names "." and "..", which are folders to them. */
export function topicPath(name) {
  if (name !== '.' && name !== '..') return `topics/${encodeURIComponent(name)}`;
  const error = new Error(`A browser cannot ask for a topic named ${name}. curl --path-as-is can.`);
  throw Object.assign(error, { name: 'CallError', status: 400, retryAfter: null });
}

/** Compares names by their code points, as the server sorts them. */
export function compareNames(a, b) {
  const [left, right] = [[...a], [...b]];
  const place = left.findIndex((character, index) => character !== right[index]);
  if (place < 0) return left.length - right.length;
  return place < right.length ? left[place].codePointAt(0) - right[place].codePointAt(0) : 1;
}

/** Returns a path with the parameters that are not empty. */
export function query(path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== '' && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Returns a count with its noun: "1 topic", "2 topics". */
export const counted = (count, noun) => `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
