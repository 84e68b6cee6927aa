// The view "Live": publish here, see it there.

import { publishing, subscribing } from './code.js';
import { Demo } from './demo.js';
import { $, button, copy, element, number, parse, say, topicColour } from './dom.js';
import { EventList } from './events.js';
import { Sparkline, rateText } from './rates.js';

const DRAW_EVERY = 1_000; // ms between two drawings of the rates
const MAX_TOPICS = 100; // lines of topics

/** Returns what the user typed: the value, and its text on one line. JSON is sent as typed, digit for digit. */
function typed() {
  const text = $('payload').value;
  try { JSON.parse(text); } catch { return { value: text, json: JSON.stringify(text), plain: true }; }
  const json = text.trim().replace(/\s*[\r\n\t]\s*/g, ' '); // JSON has none of these inside a string
  return { value: parse(json), json, plain: false };
}

export function mount(root, app) {
  const { session } = app;
  const list = new EventList(app);
  const demo = new Demo(app);
  const chart = new Sparkline('large');
  const lines = new Map(); // by the name of the topic
  let drawing = null;
  const now = element('strong'), most = element('span');
  $('chart').append(element('span', {}, '60 s ago'), element('p', { title: 'Events in the last minute' }, now, ' a second', most), chart.node);

  // ---- Topics

  function subscribe(name) {
    session.subscribe(name);
    if (!$('to').value) fill(name);
    app.did(`Subscribe to ${name}`, subscribing(name));
  }

  function line(topic) {
    const { name } = topic;
    const spark = new Sparkline('small');
    const label = element('button', { type: 'button', className: 'name', title: 'Show only its events' }, name);
    label.onclick = () => { list.only(list.topic === name ? '' : name); fill(name); };
    const rate = element('span', { className: 'num' }), count = element('span', { className: 'num soft' });
    const leave = button('quiet icon', '×', { ariaLabel: `Unsubscribe from ${name}`, title: 'Unsubscribe' });
    leave.onclick = () => {
      const next = node.nextElementSibling ?? node.previousElementSibling;
      session.unsubscribe(name);
      (next?.querySelector('.icon') ?? $('from')).focus();
    };
    const node = element('li', { dataset: { topic: name } }, label, spark.node, rate, count, leave);
    node.style.setProperty('--topic', topicColour(name));
    return { node, spark, label, rate, count };
  }

  /** Draws the topics in the next frame: a change of 1,000 topics is drawn once. */
  function drawSoon() {
    drawing ??= requestAnimationFrame(drawTopics);
  }

  function drawTopics() {
    drawing = null;
    const shown = [...session.topics.values()].slice(0, MAX_TOPICS);
    for (const [name, { node }] of lines) if (!shown.includes(session.topics.get(name))) { node.remove(); lines.delete(name); }
    for (const topic of shown) {
      if (!lines.has(topic.name)) {
        lines.set(topic.name, line(topic));
        $('topics').append(lines.get(topic.name).node);
      }
      const { node, label } = lines.get(topic.name);
      node.dataset.phase = topic.phase;
      label.setAttribute('aria-pressed', list.topic === topic.name);
    }
    const more = session.topics.size - shown.length;
    say($('more-topics'), more > 0 ? `and ${number(more)} more` : '');
    const failed = [...session.topics.values()].findLast((it) => it.phase === 'failed');
    say($('subscribed'), failed?.problem ?? '');
    const longest = Math.max(0, ...shown.map(({ name }) => name.length));
    $('list').style.setProperty('--names', `${Math.min(Math.max(longest, 7), 18) + 3}ch`);
    $('known').replaceChildren(...shown.map(({ name }) => element('option', { value: name })));
    guide();
    drawRates();
  }

  function drawRates() {
    const counts = session.rate.read();
    say(now, rateText(session.rate.now));
    const top = chart.draw(counts);
    say(most, Math.max(...counts) ? `, at most ${number(top)}` : '');
    for (const [name, { spark, rate, count }] of lines) {
      const topic = session.topics.get(name);
      if (!topic) continue;
      spark.draw(topic.rate.read());
      say(rate, `${rateText(topic.rate.now)}/s`);
      say(count, number(topic.count));
    }
  }

  // ---- Publishing

  function fill(name) {
    $('to').value = name;
    preview();
  }

  function preview() {
    const { value, json, plain } = typed();
    say($('reading'), plain ? 'Not valid JSON, so it is sent as a string.' : 'Valid JSON, sent as it is.');
    const topic = $('to').value || 'orders';
    app.did(`Publish to ${topic}`, publishing(topic, value, json));
  }

  async function publish() {
    const topic = $('to').value, { value } = typed(), start = performance.now();
    const tell = (text, bad) => { say($('published'), text); $('published').classList.toggle('bad', bad); };
    if (session.isIdle) return tell('Not connected. Connect first, or use the curl command.', true);
    tell(session.state.name === 'open' ? 'Publishing…' : 'It is published once the connection is back…', false);
    preview();
    try {
      await session.client.publish(topic, value);
      tell(`Published to ${topic}, acknowledged in ${Math.max(1, Math.round(performance.now() - start))} ms.`, false);
    } catch (error) {
      tell(error.message, true);
      if (error.code === 'TOPIC_NOT_FOUND') $('published').append(hint(topic));
    }
  }

  function hint(topic) {
    const act = () => { subscribe(topic); say($('published'), 'Now publish again.'); $('published').classList.remove('bad'); };
    return element('p', { className: 'soft' }, 'A topic needs a subscriber before anything can be published to it. ',
      button('', `Subscribe to ${topic} first`, { onclick: act }));
  }

  /** Shows the next step to a first-time user. */
  function guide() {
    const names = session.topics.size > 3 ? `${number(session.topics.size)} topics` : [...session.topics.keys()].join(', ');
    say($('empty'), list.isFiltered ? 'No event matches the filter.'
      : names ? `Waiting for events of ${names}. Publish one here, or run the code.`
        : 'Subscribe to a topic, then publish to it. Its events appear here.');
  }

  const forms = { subscribe: () => { subscribe($('from').value); $('from').value = ''; }, publish };
  for (const [id, act] of Object.entries(forms)) $(id).onsubmit = (event) => { event.preventDefault(); act(); };
  $('to').oninput = $('payload').oninput = preview;
  $('payload').onkeydown = (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('publish').requestSubmit(); };
  $('link').onclick = () => copy($('link'), location.href);
  session.on('subscriptions', drawSoon);
  list.on('filter', drawSoon);
  setInterval(() => { if (!root.hidden && !document.hidden) drawRates(); }, DRAW_EVERY);
  if (session.topics.size) $('to').value = [...session.topics.keys()][0];
  preview();
  drawTopics();
  demo.startIfNew();

  return {
    show(params) {
      list.filterBy(params.get('filter') ?? '', params.get('only') ?? '');
      drawTopics();
      list.redraw();
    },
    hide() {},
  };
}
