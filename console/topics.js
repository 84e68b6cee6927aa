// Topics: search, create and delete, with subscribers. The server searches and makes the pages.

import { Grid, Loader, Pager, cell, compareNames, counted, query, reading, tokenFor, topicPath } from './admin.js';
import { rest } from './code.js';
import { button, element, number, say, topicLabel } from './dom.js';
import { rateText } from './rates.js';

const EVERY = 2_000; // ms between two requests
const PAUSE_FACTOR = 20; // the server examines all topics, and is to do so for at most 5 % of its time
const PAGE = 50; // topics
const COLUMNS = [{ title: 'Topic' }, { title: 'Subscribers', className: 'num' }, { title: 'Events/s', className: 'num' }, { title: 'Actions', className: 'acts' }];
const TYPED = 250; // ms after the last key before the server searches

export function mount(root, app) {
  let prefix = '', after = '';

  const search = element('input', { type: 'search', placeholder: 'chat/', autocomplete: 'off', autocapitalize: 'off', spellcheck: false });
  const name = element('input', { placeholder: 'chat/general', autocomplete: 'off', autocapitalize: 'off', spellcheck: false });
  const creating = element('form', { className: 'row' }, element('label', { className: 'field' }, 'New topic', name), element('button', { className: 'button primary' }, 'Create'));
  const answer = element('p', { className: 'answer', role: 'status' });
  const total = element('span', { className: 'soft' });
  const empty = element('p', { className: 'empty', hidden: true });
  const grid = new Grid('Topics', COLUMNS, ([topic]) => topic, ([topic]) => row(topic));
  const pager = new Pager((to) => app.go('topics', { q: prefix, after: to }));
  const loader = new Loader(app, { every: EVERY, pauseFactor: PAUSE_FACTOR, ask: () => app.call('GET', path()), show, need: () => ['manage', '#'], clear: () => draw([]) });
  root.append(
    element('div', { className: 'head' }, element('h2', {}, 'Topics'), total),
    element('div', { className: 'toolbar' }, element('label', { className: 'field grow' }, 'Name begins with', search), creating),
    answer, loader.notice, grid.element, empty, pager.element,
  );

  const page = () => ({ prefix, after, limit: PAGE });
  const path = () => query('topics', page());

  function show({ count, topics, next = '', degraded }) {
    say(total, `${counted(count, 'topic')} in all${degraded ? '; those of other servers are missing, since Redis is out of reach' : ''}`);
    const rows = Object.entries(topics).sort(([a], [b]) => compareNames(a, b));
    draw(rows);
    const isHidden = count > 0 && !prefix && !after; // the list has only what the caller may manage
    explain(...(after ? ['No topic follows here.'] : prefix ? [`No topic begins with “${prefix}”.`]
      : isHidden ? [`You may manage none of ${count === 1 ? 'it' : `these ${number(count)}`}. `, ...tokenFor('manage', '#')]
        : ['No topics yet. The first subscriber creates one, or you create one above.']));
    empty.hidden = rows.length > 0;
    pager.show(after, next);
  }

  function explain(...parts) {
    const texts = parts.map((it) => it.textContent ?? it).join('');
    if (empty.textContent !== texts) empty.replaceChildren(...parts);
  }

  function draw(rows) {
    grid.show(rows);
    empty.hidden = true;
    if (!rows.length) pager.show('', '');
  }

  function row(topic) {
    const subscribers = cell('num', '', 'Subscribers'), rate = cell('num', '', 'Events/s');
    const link = (text, view) => element('a', { className: 'button quiet', ariaLabel: `${text} of ${topic}`, dataset: { view, act: view } }, text);
    const links = [link('History', 'history'), link('Connections', 'connections')];
    const actions = element('div', { className: 'actions' },
      button('quiet', 'Open', { ariaLabel: `Open ${topic} in Live`, dataset: { act: 'open' }, onclick: () => app.watch(topic) }),
      ...links,
      button('quiet danger', 'Delete', { ariaLabel: `Delete ${topic}`, dataset: { act: 'delete' }, onclick: () => remove(topic, count) }));
    let count = 0;
    const line = element('tr', {}, cell('title', topicLabel(topic)), subscribers, rate, cell('acts', actions));
    return {
      line,
      update([, now]) {
        count = now;
        for (const it of links) it.href = app.link(it.dataset.view, { of: topic });
        say(subscribers, number(now));
        subscribers.classList.toggle('soft', now === 0);
        const own = app.session.topics.get(topic);
        say(rate, own ? rateText(own.rate.now) : '–');
        rate.title = own ? '' : 'Known of topics that you are subscribed to';
        rate.classList.toggle('soft', !own);
      },
    };
  }

  async function create() {
    const topic = name.value;
    if (!topic) return name.focus();
    const body = { name: topic };
    app.did(`Create ${topic}`, rest('POST', 'topics', body));
    try {
      await app.call('POST', 'topics', body);
    } catch (error) {
      return fail(error, `“${topic}” was not created`);
    }
    name.value = '';
    tell(`Created “${topic}”. It stays until it is deleted. `, button('quiet', 'Show it', { onclick: () => find(topic) }));
    await loader.now();
  }

  async function remove(topic, count) {
    const yes = await app.confirm({
      title: `Delete ${topic}?`,
      text: `${count ? `${counted(count, 'subscriber')} ${count === 1 ? 'gets' : 'get'} a notice and ${count === 1 ? 'is' : 'are'} unsubscribed, but ${count === 1 ? 'stays' : 'stay'} connected.` : 'It has no subscribers.'} Its history is lost. The next subscriber creates the topic anew.`,
      action: 'Delete',
      danger: true,
    });
    if (!yes) return;
    try {
      const at = topicPath(topic);
      app.did(`Delete ${topic}`, rest('DELETE', at));
      await app.call('DELETE', at);
    } catch (error) {
      return fail(error, `“${topic}” was not deleted`);
    }
    tell(`Deleted “${topic}”.`);
    await loader.now();
  }

  function fail(error, what) {
    if (error.name !== 'CallError') throw error;
    tell(`${what}: ${error.message}`);
    answer.classList.add('bad');
  }

  function tell(...parts) {
    answer.classList.remove('bad');
    answer.replaceChildren(...parts);
  }

  /** Searches for names that begin so, on the first page. */
  function find(text) {
    search.value = prefix = text;
    after = '';
    app.setParams({ q: prefix, after });
    app.did('List topics', reading(path(), 'topics', [], page()));
    return loader.now();
  }

  let typing;
  search.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => find(search.value), TYPED);
  };
  creating.onsubmit = (event) => {
    event.preventDefault();
    create();
  };

  return {
    show(params) {
      prefix = params.get('q') ?? '';
      after = params.get('after') ?? '';
      search.value = prefix;
      tell();
      app.did('List topics', reading(path(), 'topics', [], page()));
      loader.start();
    },
    hide() {
      clearTimeout(typing);
      loader.stop();
    },
  };
}
