// Connections: search by subject and topic, what waits for each, and the closing of connections.

import { Grid, Loader, Pager, cell, counted, mark, query } from './admin.js';
import { rest } from './code.js';
import { button, bytes, duration, element, number, say } from './dom.js';

const EVERY = 2_000; // ms between two requests
const PAGE = 50; // connections
const MOST = 1_000; // connections in one answer at most
const TYPED = 250; // ms after the last key before the server searches
const FULL = { messages: 256, bytes: 1_048_576 }; // MAX_QUEUE_SIZE and MAX_QUEUE_BYTES by default
const COLUMNS = [{ title: 'Connection' }, { title: 'Subject' }, { title: 'Client id' }, { title: 'Transport' }, { title: 'Age', className: 'num' },
  { title: 'Topics', className: 'num' }, { title: 'Waiting', className: 'num' }, { title: 'Actions', className: 'acts' }];
const BANS = [['0', 'No ban'], ['60', '1 minute'], ['600', '10 minutes'], ['3600', '1 hour'], ['86400', '1 day'], ['2678400', '31 days']];

export function mount(root, app) {
  let shown = []; // the connections of the page
  let wanted = { sub: '', of: '', after: '', slow: '' };

  const text = (placeholder) => element('input', { type: 'search', placeholder, autocomplete: 'off', autocapitalize: 'off', spellcheck: false });
  const sub = text('ann'), topic = text('chat/general');
  topic.setAttribute('list', 'known');
  const slow = button('', 'Slow only', { ariaPressed: 'false' });
  const answer = element('p', { className: 'answer', role: 'status' });
  const note = element('p', { className: 'bad' });
  const total = element('span', { className: 'soft' });
  const empty = element('p', { className: 'empty', hidden: true });
  const grid = new Grid('Connections', COLUMNS, ({ id }) => id, row);
  const pager = new Pager((after) => app.go('connections', { ...wanted, after }));
  const loader = new Loader(app, { every: EVERY, ask: () => app.call('GET', path()), show, need: () => ['manage', '#'], clear: () => draw([]) });
  const dialog = disconnectDialog(app, tell, () => loader.now());
  root.append(
    element('div', { className: 'head' }, element('h2', {}, 'Connections'), total),
    element('div', { className: 'toolbar' }, element('label', { className: 'field grow' }, 'Subject', sub), element('label', { className: 'field grow' }, 'Subscribed to', topic),
      slow),
    answer, loader.notice, note, grid.element, empty, pager.element, dialog.element,
  );

  const path = () => query('connections', { sub: wanted.sub, topic: wanted.of, after: wanted.after, limit: wanted.slow ? MOST : PAGE });

  function show({ connections, next = '', missing = [], degraded }) {
    const rows = wanted.slow ? connections.filter((it) => it.slow) : connections;
    draw(rows);
    const isSearch = wanted.sub || wanted.of;
    say(empty, wanted.slow && connections.length ? `None of ${next ? `these ${number(connections.length)}` : 'the'} connections is slow now.`
      : isSearch ? 'No connection fits this search.' : wanted.after ? 'No connection follows here.' : 'No connections.');
    empty.hidden = rows.length > 0;
    const slowOnes = connections.filter((it) => it.slow).length;
    say(total, `${counted(connections.length, 'connection')}${next || wanted.after ? ' on this page' : ''}, ${number(slowOnes)} slow`);
    pager.show(wanted.after, next);
    say(note, degraded ? 'Redis is out of reach: connections of other servers are missing.'
      : missing.length ? `Connections of ${counted(missing.length, 'server')} are missing, which did not answer: ${missing.join(', ')}.` : '');
  }

  function draw(rows) {
    shown = rows;
    grid.show(rows);
    empty.hidden = true;
    if (!rows.length) pager.show('', '');
    say(note, '');
    say(total, '');
  }

  function row(connection) {
    const { id, node, address, transport } = connection;
    const [subject, clientId] = ['Subject', 'Client id'].map((label) => cell('label', '', label));
    const [age, topics] = ['Age', 'Topics'].map((label) => cell('num', '', label));
    const own = element('span', { className: 'badge' });
    const words = element('span'), slowMark = element('span', { className: 'badge bad' });
    const bar = element('span');
    const meter = element('span', { className: 'meter', role: 'img' }, bar);
    const act = element('button', { type: 'button', className: 'button quiet danger', dataset: { act: 'disconnect' }, ariaLabel: `Disconnect ${id}` }, 'Disconnect');
    let newest = connection;
    act.onclick = () => dialog.open(newest, shown.filter((it) => it.client_id === newest.client_id).length);
    const line = element('tr', {}, cell('title', element('span', {}, element('code', { title: `Server ${node}` }, `${node.slice(0, 6)}…-${id.slice(node.length + 1)}`), ' ', element('span', { className: 'soft' }, address), ' ', own)),
      subject, clientId, cell('', transport === 'websocket' ? 'WebSocket' : 'SSE', 'Transport'), age, topics,
      cell('num', element('span', { className: 'waiting' }, slowMark, words, meter), 'Waiting'), cell('acts', act));
    return {
      line,
      update(now) {
        newest = now;
        say(subject, now.sub ?? '–');
        say(clientId, now.client_id ?? '–');
        say(age, duration(now.age_sec));
        say(topics, number(now.subscriptions));
        say(words, now.queued_messages || now.queued_bytes ? `${counted(now.queued_messages, 'message')}, ${bytes(now.queued_bytes)}` : '0');
        meter.hidden = words.textContent === '0';
        const part = Math.min(1, Math.max(now.queued_messages / FULL.messages, now.queued_bytes / FULL.bytes));
        bar.style.width = `${Math.round(part * 100)}%`;
        meter.ariaLabel = meter.title = `${Math.round(part * 100)} % of the default limits, ${FULL.messages} messages and 1 MiB`;
        mark(own, now.client_id === app.session.name ? 'this page' : '');
        mark(slowMark, now.slow ? 'slow' : '');
        line.classList.toggle('slow', now.slow);
        const isNamed = Boolean(now.sub || now.client_id);
        act.disabled = !isNamed;
        act.title = isNamed ? '' : 'It has neither a subject nor a client id, by which connections are closed';
      },
    };
  }

  function tell(words, isBad = false) {
    answer.classList.toggle('bad', isBad);
    say(answer, words);
  }

  function search() {
    wanted = { sub: sub.value, of: topic.value, after: '', slow: slow.ariaPressed === 'true' ? '1' : '' };
    app.setParams(wanted);
    app.did('List connections', rest('GET', path()));
    loader.now();
  }

  let typing;
  sub.oninput = topic.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(search, TYPED);
  };
  slow.onclick = () => {
    slow.ariaPressed = String(slow.ariaPressed !== 'true');
    search();
  };

  return {
    show(params) {
      wanted = Object.fromEntries(Object.keys(wanted).map((key) => [key, params.get(key) ?? '']));
      sub.value = wanted.sub;
      topic.value = wanted.of;
      slow.ariaPressed = String(wanted.slow !== '');
      tell('');
      app.did('List connections', rest('GET', path()));
      loader.start();
    },
    hide() {
      clearTimeout(typing);
      loader.stop();
      dialog.close();
    },
  };
}

/** The dialog that closes connections, by their subject or client id. */
function disconnectDialog(app, tell, done) {
  let target = null; // the connection from which it was opened
  let seen = 0; // how many on the page have its client id
  let counting = 0; // the number of the newest question for how many there are

  const by = element('select');
  const ban = element('select', {}, ...BANS.map(([value, words]) => element('option', { value }, words)));
  const banField = element('label', { className: 'field' }, 'Ban the subject', ban);
  const count = element('p', { role: 'status' }), after = element('p', { className: 'soft' }), problem = element('p', { className: 'bad', role: 'status' });
  const act = element('button', { className: 'button danger' }, 'Disconnect');
  const cancel = element('button', { type: 'button', className: 'button', onclick: () => dialog.close() }, 'Cancel');
  const form = element('form', {}, element('label', { className: 'field' }, 'Close every connection with', by), banField, count, after, problem, element('div', { className: 'row' }, act, cancel));
  const title = element('h2', { id: 'h-disconnect' }, 'Disconnect');
  const dialog = element('dialog', { className: 'disconnect' }, title, form);
  dialog.setAttribute('aria-labelledby', title.id);

  const isBySub = () => by.value === 'sub';
  const body = () => (isBySub() ? { sub: target.sub, ...(ban.value === '0' ? {} : { for: Number(ban.value) }) } : { client_id: target.client_id });

  function draw() {
    banField.hidden = !isBySub();
    const banned = isBySub() && ban.value !== '0';
    say(after, banned ? `They are closed with 3003, and do not come back: until the ban ends, every token of ${target.sub} is refused. A ban cannot be shortened.`
      : 'They are closed with 3000. Clients of this project connect again at once, and recover what they missed.');
    say(act, banned ? 'Disconnect and ban' : 'Disconnect');
    countThem();
  }

  /** Says how many connections may be closed. The server counts subjects; a client id it does not search for. */
  async function countThem() {
    const own = (counting += 1);
    if (!isBySub()) return say(count, `${counted(seen, 'connection')} on this page ${seen === 1 ? 'has' : 'have'} it. All connections with this client id are closed, on all servers.`);
    say(count, 'Counting…');
    try {
      const { connections, next } = await app.call('GET', query('connections', { sub: target.sub, limit: MOST }));
      if (own === counting) say(count, `${next ? `More than ${number(MOST)} connections` : counted(connections.length, 'connection')} of ${target.sub} ${connections.length === 1 ? 'is' : 'are'} open now, on all servers.`);
    } catch (error) {
      if (own === counting) say(count, `How many are open is not known: ${error.message}`);
    }
  }

  async function disconnect() {
    const request = body();
    act.disabled = true;
    app.did(`Disconnect ${request.sub ?? request.client_id}`, rest('POST', 'disconnect', request));
    try {
      const { clients, until, degraded } = await app.call('POST', 'disconnect', request);
      dialog.close();
      tell(`Closed ${counted(clients, 'connection')} of “${request.sub ?? request.client_id}” on the server that was asked, and those on others.${
        until ? ` The subject is banned until ${new Date(until).toLocaleString()}.` : ''}${degraded ? ' Other servers could not be told, since Redis is out of reach.' : ''}`);
      done();
    } catch (error) {
      if (error.name !== 'CallError') throw error;
      say(problem, `Nothing was closed: ${error.message}`);
    } finally {
      act.disabled = false;
    }
  }

  form.onsubmit = (event) => {
    event.preventDefault();
    disconnect();
  };
  by.onchange = ban.onchange = draw;

  return {
    element: dialog,
    open(connection, alike) {
      target = connection;
      seen = alike;
      const choices = [['sub', 'the subject', target.sub], ['client_id', 'the client id', target.client_id]].filter(([, , name]) => name);
      by.replaceChildren(...choices.map(([value, words, name]) => element('option', { value }, `${words} ${name}`)));
      ban.value = '0';
      say(problem, '');
      draw();
      dialog.showModal();
    },
    close: () => dialog.close(),
  };
}
