// The list of events: what arrived, newest first, with a filter.

import { $, Emitter, button, clock, copy, element, number, pretty, say, spaced, topicColour, topicLabel } from './dom.js';

const MAX_KEPT = 1_000; // entries
const MAX_ROWS = 200; // in the document
const DRAW_EVERY = 100; // ms between two drawings
const MAX_LINE = 300; // characters of a payload in one line
const MAX_NAMES = 5; // topics in a recovery's sentence

/** Returns what happened as one line of text. */
function lineOf(entry) {
  if (entry.kind === 'recovery') return recovered(entry);
  return entry.kind === 'event' ? spaced(JSON.stringify(entry.payload)) : entry.text;
}

/** Says what a reconnect has brought back, and what not. */
function recovered({ seconds, answers }) {
  const back = seconds === null ? 'Subscribed again' : `Back after ${seconds.toFixed(1)} s`;
  const whole = answers.filter((it) => it.recovered);
  const missed = whole.reduce((sum, it) => sum + it.missed, 0);
  const names = (list) => (list.length > MAX_NAMES ? `${number(list.length)} topics` : list.map((it) => it.name).join(', '));
  const parts = [];
  if (whole.length && missed) parts.push(`${number(missed)} missed, ${number(missed)} recovered (${names(whole.filter((it) => it.missed))})`);
  else if (whole.length) parts.push(`nothing was lost (${names(whole)})`);
  const gone = answers.filter((it) => !it.recovered && it.known);
  if (gone.length) parts.push(`the history of ${names(gone)} does not reach back so far`);
  const without = answers.filter((it) => !it.recovered && !it.known);
  if (without.length) parts.push(`${names(without)} ${without.length === 1 ? 'has' : 'have'} no history: start the server with HISTORY_SIZE=100 to recover what is missed`);
  return `${back}: ${parts.join('; ')}.`;
}

export class EventList extends Emitter {
  topic = ''; // the only one shown
  #app;
  #session;
  #kept = []; // entries, oldest first
  #fresh = []; // entries that are not drawn yet
  #text = ''; // of the filter, in lower case
  #paused = false;
  #held = 0; // new entries that are not shown yet
  #isDrawing = false;
  #drawn = 0;

  constructor(app) {
    super();
    this.#app = app;
    this.#session = app.session;
    this.#session.on('entry', (entry) => this.#add(entry));
    $('pause').onclick = () => { this.#paused = !this.#paused; this.redraw(); };
    $('clear').onclick = () => this.#clear();
    $('filter').oninput = () => { this.#apply($('filter').value, this.topic); };
    $('only').onclick = () => { this.only(''); $('filter').focus(); };
    $('held').onclick = () => {
      for (const it of $('list').querySelectorAll('[open]')) it.open = false;
      this.#scroller.scrollTop = 0;
      this.redraw();
    };
    this.#scroller.addEventListener('scroll', () => { if (this.#held) this.redraw(); }, { passive: true });
    $('list').addEventListener('keydown', (event) => this.#move(event));
  }

  get isFiltered() {
    return this.#text !== '' || this.topic !== '';
  }

  /** Shows only the events of a topic; of all topics if it is empty. */
  only(topic) {
    this.#apply($('filter').value, topic);
  }

  /** Filters as the address says. */
  filterBy(text, topic) {
    if ($('filter').value === text && this.topic === topic) return;
    $('filter').value = text;
    this.#apply(text, topic);
  }

  redraw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    const wait = this.#drawn + DRAW_EVERY - performance.now();
    setTimeout(() => requestAnimationFrame(() => this.#draw()), Math.max(0, wait));
  }

  get #scroller() {
    return $('list').parentElement;
  }

  #apply(text, topic) {
    this.#text = text.trim().toLowerCase();
    this.topic = topic;
    this.#app.setParams({ filter: text.trim(), only: topic });
    $('only').hidden = !topic;
    $('only').style.setProperty('--topic', topicColour(topic));
    $('only').ariaLabel = `Only ${topic}: show all topics`;
    say($('only'), `${topic} ×`);
    this.#rebuild();
    this.emit('filter');
  }

  #matches(entry) {
    if (this.topic && entry.topic !== this.topic) return false;
    if (!this.#text) return true;
    entry.search ??= `${entry.topic ?? ''} ${lineOf(entry)} ${entry.id ?? ''}`.toLowerCase();
    return entry.search.includes(this.#text);
  }

  #add(entry) {
    this.#kept.push(entry);
    if (this.#kept.length > 2 * MAX_KEPT) this.#kept.splice(0, this.#kept.length - MAX_KEPT);
    if (entry.kind === 'recovery') this.#app.say(lineOf(entry)); // its row may be far down already
    if (this.#matches(entry)) {
      this.#fresh.push(entry);
      if (this.#fresh.length > 2 * MAX_ROWS) this.#fresh.splice(0, this.#fresh.length - MAX_ROWS);
      this.#held += 1;
    }
    this.redraw();
  }

  /** Whether new rows would move what the user reads. Asked once for a drawing: it may need a layout. */
  get #isHeld() {
    return this.#paused || this.#scroller.scrollTop > 0 || $('list').querySelector('[open]') !== null;
  }

  #rebuild() {
    this.#fresh = this.#kept.filter((entry) => this.#matches(entry)).slice(-MAX_ROWS);
    this.#held = 0;
    $('list').replaceChildren();
    this.#show();
    this.redraw();
  }

  #clear() {
    this.#kept = [];
    this.#fresh = [];
    this.#held = 0;
    this.#session.received = 0;
    $('list').replaceChildren();
    this.redraw();
  }

  #draw() {
    this.#isDrawing = false;
    this.#drawn = performance.now();
    if (!this.#isHeld) this.#show();
    const { received } = this.#session;
    const kept = Math.min(this.#kept.length, MAX_KEPT);
    say($('counts'), received || kept ? `showing ${number($('list').childElementCount)} of ${number(kept)} kept, ${number(received)} received` : '');
    say($('pause'), !this.#paused ? 'Pause' : this.#held ? `Resume (${number(this.#held)} new)` : 'Resume');
    $('pause').setAttribute('aria-pressed', this.#paused);
    $('held').hidden = this.#paused || !this.#held;
    say($('held'), `${number(this.#held)} new`);
  }

  /** Moves the new entries into the list. */
  #show() {
    this.#held = 0;
    const fresh = this.#fresh.splice(0).slice(-MAX_ROWS);
    if (!fresh.length) return;
    const rows = $('list');
    const spare = Math.max(0, rows.childElementCount + fresh.length - MAX_ROWS);
    for (let count = 0; count < spare; count += 1) rows.lastChild.remove();
    rows.prepend(...fresh.reverse().map((entry) => this.#row(entry)));
    if (!rows.querySelector('summary[tabindex="0"]')) rows.querySelector('summary').tabIndex = 0;
  }

  #row(entry) {
    const { kind, topic, at, offset } = entry;
    const line = lineOf(entry);
    const summary = element('summary', { tabIndex: -1 },
      element('time', {}, clock(at)),
      kind === 'event' ? topicLabel(topic) : element('span', { className: 'kind' }, kind),
      element('code', { className: 'line' }, kind !== 'event' && topic ? `${topic}: ${line}` : line.slice(0, MAX_LINE)));
    if (entry.recovered) summary.append(element('span', { className: 'badge good' }, 'recovered'));
    if (offset !== undefined) summary.append(element('span', { className: 'offset', title: 'offset' }, `#${offset}`));
    const details = element('details', {}, summary);
    details.addEventListener('toggle', () => {
      if (details.open && !details.children[1]) details.append(this.#more(entry));
      this.redraw();
    });
    return element('li', { className: kind }, details);
  }

  /** Returns what an open row shows. */
  #more({ kind, payload, raw, id, ts, offset, topic, text, answers }) {
    const body = pretty(kind === 'event' ? payload : raw ?? answers ?? text);
    const facts = [['topic', topic], ['id', typeof id === 'object' ? JSON.stringify(id) : id], ['offset', offset], ['server time', ts]];
    const list = element('dl', {}, ...facts.filter(([, value]) => value !== undefined)
      .map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, String(value)))));
    const code = element('pre', {}, body);
    const copier = button('quiet', 'Copy', { ariaLabel: 'Copy the payload' });
    copier.onclick = () => copy(copier, body, code);
    return element('div', { className: 'more' }, code, copier, list);
  }

  /** Moves the focus from row to row by the arrow keys. */
  #move(event) {
    const row = event.target.closest('li');
    const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling, Home: $('list').firstElementChild, End: $('list').lastElementChild }[event.key];
    if (!next || event.target.tagName !== 'SUMMARY') return;
    event.preventDefault();
    for (const it of $('list').querySelectorAll('summary[tabindex="0"]')) it.tabIndex = -1;
    const summary = next.querySelector('summary');
    summary.tabIndex = 0;
    summary.focus();
  }
}
