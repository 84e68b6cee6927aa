// The history of a topic: its events, newest first, in pages.

import { Grid, Loader, cell, counted, query, reading, topicPath } from './admin.js';
import { rest, withClient } from './code.js';
import { button, copy, element, pretty, say, spaced, topicLabel } from './dom.js';
import { rateText } from './rates.js';

const EVERY = 2_000; // ms between two requests
const PAGE = 50; // events
const SHOWN = 300; // characters of a payload that is not expanded
const isToday = (when) => when.toDateString() === new Date().toDateString();

export function mount(root, app) {
  let topic = '', before = null; // the page has the events before this position; null for the newest
  let seen = null; // the newest position and its time, for the rate
  let oldest = null; // the position of the last event on the page

  const name = element('input', { required: true, placeholder: 'chat/general', autocomplete: 'off', autocapitalize: 'off', spellcheck: false });
  name.setAttribute('list', 'known');
  const choose = element('form', { className: 'row' }, element('label', { className: 'field grow' }, 'Topic', name), element('button', { className: 'button' }, 'Show'));
  const open = button('', 'Open in Live', { onclick: () => app.watch(topic) });
  const facts = element('dl', { className: 'facts' });
  const empty = element('div', { className: 'empty' });
  const newest = button('', 'Newest', { onclick: () => turn(null) });
  const older = button('', 'Older', { onclick: () => turn(oldest) });
  const words = element('span', { className: 'soft' });
  const columns = [{ title: 'Offset', className: 'num' }, { title: 'Time' }, { title: 'Payload' }, { title: 'Actions', className: 'acts' }];
  const grid = new Grid('Events, newest first', columns, ({ key }) => key, row);
  const loader = new Loader(app, { every: EVERY, ask, show, need: () => ['subscribe', topic], clear: () => draw([]) });
  const head = element('h2', {}, 'History');
  root.append(
    element('div', { className: 'head' }, head, open),
    choose, loader.notice, facts, grid.element, empty,
    element('nav', { className: 'pager', ariaLabel: 'Pages' }, newest, older, words),
  );

  const page = (limit) => ({ reverse: true, limit, since_epoch: before?.epoch, since_offset: before?.offset });
  const path = (limit) => query(`${topicPath(topic)}/history`, page(limit));

  /** Asks for one event more than the page has, to know whether there are older ones. */
  async function ask() {
    try {
      return await app.call('GET', path(PAGE + 1));
    } catch (error) {
      if (error.status === 404) return { reason: 'none' };
      if (error.status === 410) return { reason: 'forgotten' };
      throw error;
    }
  }

  function show({ reason, epoch, offset, events = [] }) {
    if (reason) return nothing(reason);
    const page = events.slice(0, PAGE);
    draw(page.map((event) => ({ ...event, epoch, key: `${epoch}:${event.offset}` })));
    const last = page.at(-1);
    oldest = last && { epoch, offset: last.offset };
    newest.hidden = older.hidden = false;
    newest.disabled = before === null;
    older.disabled = events.length <= PAGE;
    say(words, last ? `Events ${last.offset} to ${page[0].offset} of ${offset}${older.disabled ? '; nothing older is kept' : ''}` : '');
    describe(epoch, offset);
    if (!page.length) explain(offset ? `None of the ${counted(offset, 'event')} of ${topic} is kept any more.` : `Nothing has been published to ${topic} yet.`);
  }

  function describe(epoch, offset) {
    const now = performance.now();
    const isNew = seen?.epoch !== epoch;
    const rate = isNew || now === seen.at ? null : (offset - seen.offset) / ((now - seen.at) / 1_000);
    if (isNew || now - seen.at > 5 * EVERY) seen = { epoch, offset, at: now };
    const items = [['Epoch', element('code', {}, epoch)], ['Newest offset', String(offset)], ['Events/s', rate === null ? '…' : rateText(rate)]];
    const texts = items.map(([, value]) => value.textContent ?? value).join(' ');
    if (facts.dataset.texts === texts) return;
    facts.dataset.texts = texts;
    facts.replaceChildren(...items.map(([title, value]) => element('div', {}, element('dt', {}, title), element('dd', {}, value))));
  }

  function nothing(reason) {
    draw([]);
    if (reason === 'forgotten') {
      explain('These events have been forgotten meanwhile, or the history has started over.', 'Press Newest.');
      newest.hidden = newest.disabled = false;
      return;
    }
    explain(`${topic} does not exist, or has no history.`, 'Without HISTORY_SIZE the server keeps no events. Start it with a number of events for each topic:',
      element('pre', { className: 'command' }, 'HISTORY_SIZE=100 python server.py'), 'HISTORY_RULES sets it for topics whose names begin alike.');
  }

  function draw(rows) {
    grid.show(rows);
    empty.hidden = true;
    if (rows.length) return;
    newest.hidden = older.hidden = true;
    say(words, '');
    facts.replaceChildren();
    delete facts.dataset.texts;
  }

  function explain(first, ...more) {
    empty.hidden = false;
    if (empty.firstChild?.textContent === first) return;
    empty.replaceChildren(element('p', {}, first), ...more.map((it) => (typeof it === 'string' ? element('p', { className: 'soft' }, it) : it)));
  }

  function row({ epoch, offset, ts, message: { id, payload } }) {
    const flat = spaced(JSON.stringify(payload));
    const shown = flat.length > SHOWN ? `${flat.slice(0, SHOWN)}…` : flat;
    const text = element('pre', { tabIndex: 0, role: 'group', ariaLabel: `Payload of event ${offset}` });
    const copying = button('quiet', 'Copy');
    copying.onclick = () => copy(copying, pretty(payload), text);
    const about = element('p', { className: 'soft' }, 'id ', element('code', {}, typeof id === 'string' ? id : JSON.stringify(id)));
    const details = element('details', {}, element('summary', { className: 'mono', dataset: { act: 'payload' } }, shown), about, text, copying);
    details.ontoggle = () => { if (details.open) say(text, pretty(payload)); };
    const when = new Date(ts);
    const recover = button('quiet', 'Recover from here', {
      ariaLabel: `Recover from here: offset ${offset}`, dataset: { act: 'recover' }, onclick: () => recoverFrom({ epoch, offset }),
    });
    const line = element('tr', {}, cell('num', String(offset), 'Offset'), cell('time', element('time', { dateTime: ts, title: when.toLocaleString() }, `${isToday(when) ? '' : `${when.toLocaleDateString('en-CA')} `}${when.toTimeString().slice(0, 8)}`)),
      cell('payload', details), cell('acts', recover));
    return { line, update() {} };
  }

  function recoverFrom(position) {
    app.watch(topic, position);
    const quoted = JSON.stringify(topic);
    app.did(`Recover ${topic} from offset ${position.offset}`, {
      ...rest('GET', query(`${topicPath(topic)}/history`, { since_epoch: position.epoch, since_offset: position.offset })),
      ...withClient({
        python: `start = ("${position.epoch}", ${position.offset})\nasync for item in client.subscribe(${quoted}, recover=start):\n    print(item)`,
        js: `const start = { epoch: "${position.epoch}", offset: ${position.offset} };\nclient.subscribe(${quoted}, (item) => console.log(item), { recover: start });`,
        stays: true,
      }),
    });
  }

  /** Shows the events before a position, or the newest. */
  function turn(position) {
    app.go('history', { of: topic, epoch: position?.epoch, before: position && String(position.offset) });
  }

  choose.onsubmit = (event) => {
    event.preventDefault();
    app.go('history', { of: name.value });
  };

  return {
    show(params) {
      topic = params.get('of') ?? '';
      before = params.get('before') ? { epoch: params.get('epoch') ?? '', offset: Number(params.get('before')) } : null;
      seen = null;
      name.value = topic;
      open.hidden = !topic;
      head.replaceChildren('History', ...(topic ? [' of ', topicLabel(topic)] : []));
      draw([]);
      if (!topic) {
        loader.stop();
        return explain('Choose a topic, or open the history of one from the list of topics.');
      }
      try {
        app.did(`Read the history of ${topic}`, reading(path(PAGE), 'history', [topic], page(PAGE)));
      } catch { /* the loader says why it has no path */ }
      loader.start();
    },
    hide() {
      loader.stop();
    },
  };
}
