// Nodes: the servers of the deployment, and whether the one that answers is ready.

import { Grid, Loader, cell, counted, mark } from './admin.js';
import { rest } from './code.js';
import { duration, element, number, say } from './dom.js';
import { Sparkline } from './rates.js';

const EVERY = 2_000; // ms between two requests
const SAMPLES = 60; // of the lag, in its picture
const FACTS = ['Version', 'Uptime', 'Clients', 'Topics', 'Subscriptions'];
const SLOW = 50, VERY_SLOW = 500; // ms of lag: events are late by as much

export function mount(root, app) {
  const figures = element('dl', { className: 'figures' });
  const ready = element('p', { className: 'checks' });
  const note = element('p', { className: 'soft' });
  const columns = [{ title: 'Server' }, ...[...FACTS, 'Lag', 'Redis'].map((title) => ({ title, className: 'num' })), { title: 'Actions', className: 'acts' }];
  const grid = new Grid('Servers', columns, ({ id }) => id, ({ id }) => row(id));
  const loader = new Loader(app, { every: EVERY, ask, show, need: () => ['manage', '#'], clear: () => { grid.show([]); figures.replaceChildren(); say(note, ''); } });
  root.append(
    element('div', { className: 'head' }, element('h2', {}, 'Nodes')), figures, ready, loader.notice, grid.element, note,
    element('p', { className: 'soft' }, 'Lag is the longest delay of the event loop in the last 10 s, and its picture shows the last 2 min: what the server does for any client may be as late. ',
      'Redis is the time that a message to itself through Redis took.'),
  );

  async function ask() {
    await app.call('GET', 'ready').then(drawReady, (error) => drawReady(error.body));
    return app.call('GET', 'nodes');
  }

  /** Shows the checks of the server that has answered; needs no right. */
  function drawReady(answer) {
    const checks = Object.entries(answer?.checks ?? {});
    const badges = checks.map(([what, state]) => element('span', { className: `badge ${state === 'ok' ? 'good' : 'bad'}` }, `${what}: ${state}`));
    const words = badges.map((it) => it.textContent).join(' ');
    if (ready.dataset.words === words) return;
    ready.dataset.words = words;
    ready.replaceChildren(...(badges.length ? ['This server ', ...badges] : []));
  }

  function show({ nodes, missing = [], degraded }) {
    const rows = [...nodes, ...missing.map((id) => ({ id }))].sort((a, b) => (a.id < b.id ? -1 : 1));
    grid.show(rows);
    const sum = (key) => nodes.reduce((total, node) => total + (node[key] ?? 0), 0);
    const most = Math.max(0, ...nodes.map((node) => node.lag_ms));
    drawFigures([['servers', number(nodes.length)], ['clients', number(sum('clients'))], ['subscriptions', number(sum('subscriptions'))], ['longest lag', `${number(most)} ms`], ['missing', number(missing.length)]]);
    const isAlone = rows.length === 1 && nodes[0]?.redis_ms === undefined && !degraded;
    say(note, degraded ? 'Redis is out of reach: this server does not know the others.'
      : missing.length ? `${counted(missing.length, 'server')} did not answer within 1.5 s. One that has crashed is gone after 15 s.`
        : isAlone ? 'One server, which keeps all topics in its memory. With REDIS_ADDR, several servers share them.' : '');
    note.classList.toggle('bad', Boolean(degraded || missing.length));
  }

  function drawFigures(items) {
    if (!figures.children.length) figures.append(...items.map(([title]) => element('div', {}, element('dt', {}, title), element('dd', {}))));
    items.forEach(([, value], place) => say(figures.children[place].lastChild, value));
  }

  function row(id) {
    const lags = Array(SAMPLES).fill(0);
    const spark = new Sparkline('small');
    const state = element('span', { className: 'badge bad' });
    const cells = FACTS.map((label) => cell('num', '', label));
    const lag = element('span');
    const redis = cell('num', '', 'Redis');
    const link = element('a', { className: 'button quiet', ariaLabel: `Connections of ${id}`, dataset: { view: 'connections', act: 'connections' } }, 'Connections');
    const line = element('tr', {}, cell('title', element('span', {}, element('code', {}, id), ' ', state)), ...cells,
      cell('num', element('span', { className: 'lags' }, spark.node, lag), 'Lag'), redis, cell('acts', link));
    return {
      line,
      update(node) {
        const isMissing = node.uptime_sec === undefined;
        mark(state, isMissing ? 'no answer' : '');
        link.hidden = isMissing;
        link.href = app.link('connections', { after: `${id}-0` });
        const texts = isMissing ? [] : [node.version, duration(node.uptime_sec), number(node.clients), number(node.topics), known(node.subscriptions)];
        cells.forEach((it, place) => say(it, texts[place] ?? '–'));
        say(lag, isMissing ? '–' : `${number(node.lag_ms)} ms`);
        lag.className = node.lag_ms >= VERY_SLOW ? 'badge bad' : node.lag_ms >= SLOW ? 'badge warn' : '';
        say(redis, known(node.redis_ms, ' ms'));
        lags.push((node.lag_ms ?? 0) / SLOW); // so that less than SLOW never fills the picture
        lags.shift();
        spark.draw(lags);
      },
    };
  }

  /** Returns a number as text; older servers do not tell some. */
  function known(value, unit = '') {
    return value === undefined ? '–' : `${number(value)}${unit}`;
  }

  return {
    show() {
      app.did('List the servers', rest('GET', 'nodes'));
      loader.start();
    },
    hide() {
      loader.stop();
    },
  };
}
