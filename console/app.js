// The shell of the console: header, views, and the object `app` that each view gets.

import { Account } from './account.js';
import { findPattern, findRule, claimsOf } from './access.js';
import { CodePanel } from './code.js';
import { $, Emitter, say } from './dom.js';
import { mount as mountConnections } from './connections.js';
import { mount as mountHistory } from './history.js';
import { mount as mountLive } from './live.js';
import { mount as mountNodes } from './nodes.js';
import { mount as mountTopics } from './topics.js';
import { call } from './rest.js';
import { Session } from './session.js';

const VIEWS = { live: mountLive, topics: mountTopics, nodes: mountNodes, connections: mountConnections, history: mountHistory };
const SHARED = ['topic', 'filter', 'only']; // parameters that each view keeps
const CUT = 3_000; // ms
const SPEAK = 6_000; // ms for which the status line is shown
const WRITE_URL = 300; // ms, at least, between two changes of the address

const base = new URL('.', location.href); // of the page, which may be behind a prefix
const access = JSON.parse(document.documentElement.dataset.access || 'null'); // null while access is off
const kept = () => { try { return sessionStorage.getItem('token') ?? ''; } catch { return ''; } };
const session = new Session(base, `console-${Math.random().toString(36).slice(2, 6)}`, access ? kept() : '');

class App extends Emitter {
  access = access;
  session = session;
  code = new CodePanel();
  #mounted = new Map(); // by the name of the view
  #view = null; // its name
  #speaking;
  #writing;

  get client() { return session.client; }
  get token() { return session.token; }
  get state() { return session.state; }

  // ---- The server

  /** Calls the REST API: see rest.js. */
  call(method, path, body) {
    return call(new URL(path, base), method, body, session.token);
  }

  /** Returns whether the user has a right for a topic, as far as the page knows; undefined if it does not. */
  may(verb, topic) {
    if (!access) return true;
    try {
      if (findPattern(access[verb] ?? [], topic, access.separator) !== undefined) return true;
      return session.token ? findRule(claimsOf(session.token), verb, topic, access.separator) !== undefined : false;
    } catch {
      return undefined; // the server knows what is wrong with it
    }
  }

  /** Calls `act` at once, and then so many ms after each end, while the page is visible. Returns what stops it. */
  poll(ms, act) {
    let timer, stopped = false, running = false;
    const run = async () => {
      clearTimeout(timer);
      if (stopped || running || document.hidden) return;
      running = true;
      try {
        await act();
      } finally {
        running = false;
        if (!stopped) timer = setTimeout(run, ms);
      }
    };
    document.addEventListener('visibilitychange', run);
    run();
    return () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', run);
    };
  }

  // ---- Topics

  isSubscribed(name) { return session.topics.has(name); }
  subscribe(name) { session.subscribe(name); }
  unsubscribe(name) { session.unsubscribe(name); }

  /** Subscribes to a topic, with a position to the events after it, and shows its events. */
  watch(name, position) {
    session.subscribe(name, position);
    this.go('live', { only: name });
  }

  // ---- What the user sees

  /** Shows a sentence in the status line for a while. */
  say(text, { bad = false } = {}) {
    clearTimeout(this.#speaking);
    $('status').classList.toggle('bad', bad);
    say($('status'), text);
    this.#speaking = setTimeout(say, SPEAK, $('status'), '');
  }

  /** Asks before something that cannot be undone; returns whether the user wants it. */
  confirm({ title, text, action, danger = true }) {
    say($('confirm-title'), title);
    say($('confirm-text'), text);
    say($('confirm-act'), action);
    $('confirm-act').className = `button ${danger ? 'danger' : 'primary'}`;
    $('confirm').returnValue = '';
    $('confirm').showModal();
    return new Promise((resolve) => {
      $('confirm').addEventListener('close', () => resolve($('confirm').returnValue === 'yes'), { once: true });
    });
  }

  /** Shows the code of what the user did. */
  did(title, code) {
    this.code.show(title, code);
  }

  // ---- Views and the address

  get params() { return new URLSearchParams(location.search); }

  /** Returns the address of a view. */
  link(view, params = {}) {
    const query = new URLSearchParams();
    if (view !== 'live') query.set('view', view);
    for (const name of session.topics.keys()) query.append('topic', name);
    const shared = SHARED.slice(1).map((key) => [key, this.params.get(key)]);
    for (const [key, value] of [...shared, ...Object.entries(params)]) if (value) query.set(key, value);
    return `${base.pathname}${query.size ? `?${query}` : ''}`;
  }

  /** Opens a view. */
  go(view, params = {}) {
    history.pushState(null, '', this.link(view, params));
    this.open();
  }

  /** Replaces parameters of the address; an empty one is removed. */
  setParams(params) {
    const now = this.params;
    for (const [key, value] of Object.entries(params)) if (value) now.set(key, value); else now.delete(key);
    history.replaceState(null, '', `${base.pathname}${now.size ? `?${now}` : ''}`);
    this.#drawLinks();
  }

  /** Shows the view that the address names. */
  open() {
    const asked = this.params.get('view') ?? 'live';
    const view = asked in VIEWS ? asked : 'live';
    const root = $(`view-${view}`);
    if (view !== this.#view) {
      if (this.#view) {
        this.#mounted.get(this.#view).hide();
        $(`view-${this.#view}`).hidden = true;
      }
      root.hidden = false;
      document.body.dataset.view = this.#view = view;
    }
    if (!this.#mounted.has(view)) this.#mounted.set(view, VIEWS[view](root, this));
    this.#mounted.get(view).show(this.params);
    this.#drawLinks();
    document.title = view === 'live' ? 'websocket-broadcast' : `${root.ariaLabel}: websocket-broadcast`;
  }

  #drawLinks() {
    for (const it of document.querySelectorAll('#nav a')) {
      const { view } = it.dataset;
      it.href = view === this.#view ? location.href : this.link(view);
      if (view === this.#view || (view === 'topics' && this.#view === 'history')) it.setAttribute('aria-current', 'page');
      else it.removeAttribute('aria-current');
    }
  }

  /** Writes the topics into the address, soon. */
  writeTopics() {
    this.#writing ??= setTimeout(() => {
      this.#writing = undefined;
      const now = this.params;
      now.delete('topic');
      for (const name of session.topics.keys()) now.append('topic', name);
      if (`?${now}` === `?${this.params}`) return;
      history.replaceState(null, '', `${base.pathname}${now.size ? `?${now}` : ''}`);
      this.#drawLinks();
    }, WRITE_URL);
  }
}

// ---- The state of the connection

const seconds = (ms) => `${(Math.max(0, ms) / 1_000).toFixed(1)} s`;
const WORDS = {
  off: 'Disconnected', connecting: 'Connecting…', open: 'Connected', stalled: 'No answer', waiting: 'Reconnecting', cut: 'Cut off',
  refused: 'Refused',
};

/** Says what is wrong, and what happens next. */
function explain(state) {
  const { name, why, attempt, ms, at, silent } = state;
  const past = performance.now() - at;
  if (name === 'stalled') return `Nothing has come for ${Math.round(silent / 1_000)} s: the server or the network is silent.`;
  if (name === 'cut') return session.cutFor ? `Back in ${seconds(session.cutFor)}.` : 'Connecting again…';
  if (name === 'waiting') return `${navigator.onLine ? '' : 'This device is offline. '}Reason: ${why}. Attempt ${attempt} in ${seconds(ms - past)}.`;
  if (name === 'connecting') return `Connecting…${past > 1_000 ? ` no answer for ${Math.round(past / 1_000)} s.` : ''}`;
  return why ? `${why}.` : '';
}

function drawState() {
  const { state } = session;
  const { name } = state;
  document.body.dataset.state = name;
  say($('state'), WORDS[name]);
  const isStream = session.client?.transport === 'sse'; // where WebSockets are blocked
  const latency = isStream ? 'over SSE' : session.latency === null ? '' : `${Math.max(1, Math.round(session.latency))} ms`;
  say($('latency'), name === 'open' ? latency : '');
  $('cut').disabled = name !== 'open' || isStream;
  $('cut').title = isStream ? 'Only a WebSocket can be cut, and this network lets none through' : 'Lose the connection, and see what is recovered';
  const past = performance.now() - state.at;
  const isBad = name === 'connecting' ? state.wasOpen || past > 1_500 : name !== 'open';
  $('banner').hidden = !isBad;
  if (!isBad) return;
  const since = new Date(state.since).toTimeString().slice(0, 8);
  const titles = {
    off: 'Disconnected.', refused: 'Not reconnecting:', cut: 'You cut the connection.', stalled: `No answer from the server since ${since}.`,
  };
  say($('banner-title'), titles[name] ?? `Not connected since ${since}.`);
  say($('banner-text'), explain(state));
  $('now').hidden = name === 'cut' || name === 'stalled' || name === 'connecting';
  say($('now'), name === 'waiting' ? 'Try now' : 'Connect');
  $('banner-token').hidden = !(name === 'refused' && access);
}

const app = new App();
const account = new Account(app);

session.on('state', () => { drawState(); app.emit('state'); });
session.on('beat', drawState);
session.on('token', () => app.emit('token'));
session.on('subscriptions', () => { app.emit('subscriptions'); app.writeTopics(); });
setInterval(() => { if (session.state.name !== 'open') drawState(); }, 100);
addEventListener('offline', drawState);

$('cut').onclick = () => session.cut(CUT);
$('now').onclick = () => (session.isIdle ? session.start() : session.client.retry());
$('open-settings').onclick = $('banner-token').onclick = () => account.open();
addEventListener('popstate', () => app.open());
document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[data-view]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, '', link.href);
  app.open();
});

for (const name of app.params.getAll('topic')) if (name) session.subscribe(name);
session.start();
app.open();
document.body.dataset.ready = '';
