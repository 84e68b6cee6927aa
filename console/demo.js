// A topic that ticks, so that there is something to see.

import { $, say } from './dom.js';

const TOPIC = 'demo';
const EVERY = 1_000; // ms
const WARES = [['espresso', 2.4], ['cappuccino', 3.2], ['croissant', 2.1], ['bagel', 2.9], ['lemonade', 3.5]];
const PLACES = ['Lisbon', 'Oslo', 'Kyoto', 'Quito', 'Turin'];

const any = (list) => list[Math.floor(Math.random() * list.length)];

/** Publishes an invented order each second, until it is stopped or the page is hidden. */
export class Demo {
  #app;
  #timer = null;
  #order = 1_000;
  #paused = false; // because the page is hidden

  constructor(app) {
    this.#app = app;
    $('demo').onclick = () => (this.#timer === null ? this.start() : this.stop());
    document.addEventListener('visibilitychange', () => {
      if (document.hidden && this.#timer !== null) { this.stop(); this.#paused = true; }
      else if (!document.hidden && this.#paused) this.start();
    });
  }

  /** Starts if this is a new server: nobody has a topic yet, and the address names none. */
  async startIfNew() {
    const app = this.#app;
    if (app.session.topics.size || !app.may('subscribe', TOPIC) || !app.may('publish', TOPIC)) return;
    try {
      const { total_topics: total } = await app.call('GET', 'stats');
      if (total === 0 && !app.session.topics.size) this.start();
    } catch { /* without figures the user decides */ }
  }

  start() {
    this.#paused = false;
    this.#app.session.subscribe(TOPIC);
    this.#timer = setInterval(() => this.#tick(), EVERY);
    this.#draw();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#paused = false;
    this.#draw();
  }

  /** Publishes over REST, so that events also happen while the connection is cut. */
  async #tick() {
    if (!this.#app.isSubscribed(TOPIC)) return this.stop();
    const [item, price] = any(WARES);
    const quantity = 1 + Math.floor(Math.random() * 3);
    this.#order += 1;
    const payload = { order: this.#order, item, quantity, total: Math.round(price * quantity * 100) / 100, city: any(PLACES) };
    try {
      await this.#app.call('POST', 'publish', { topic: TOPIC, payload });
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        this.stop();
        this.#app.say(`The demo was stopped: ${error.message}`, { bad: true });
      } // else nobody is subscribed now, or the server is out of reach: the next tick may succeed
    }
  }

  #draw() {
    const runs = this.#timer !== null;
    say($('demo'), runs ? 'Stop demo' : 'Start demo');
    $('demo').setAttribute('aria-pressed', runs);
  }
}
