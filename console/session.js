// The connection of the console, its topics, and what arrives: the state that all views share.

import { connect } from '../client.js';
import { Emitter, parse } from './dom.js';
import { Wire } from './line.js';
import { Rate } from './rates.js';

/** A topic that the user has subscribed to. */
class Topic {
  phase = 'waiting'; // waiting for the server's ack, on, or failed
  problem = ''; // why it failed
  count = 0; // events since the page was opened
  rate = new Rate();
  subscription = null;
  position = null; // the position at the loss of the connection
  until = null; // the offset up to which events are recovered ones
  isNew = true; // whether no connection has had it

  constructor(name) {
    this.name = name;
  }
}

/**
 * The connection. `state.name` is "off", "connecting", "open", "stalled" (open, and silent), "waiting"
 * (for the next attempt), "cut" (by the user) or "refused". Emits "state", "beat" (an answer to a ping),
 * "token", "expires", "subscriptions" and "entry" (something for the list of events).
 */
export class Session extends Emitter {
  state = { name: 'off', since: Date.now() };
  topics = new Map(); // by name
  rate = new Rate(); // of all topics
  received = 0;
  client = null;
  latency = null; // ms of the newest ping
  name; // the client id
  token = '';
  #base;
  #wire = new Wire();
  #lost = null; // the time at which the connection was lost
  #answers = []; // acks since the connection is back
  #wasOpen = false; // whether any connection was
  #refusal = ''; // the newest subscribe's, which the list has already
  #quiet = false; // whether a change of the state is part of another token

  constructor(base, name, token) {
    super();
    this.#base = base;
    this.name = name;
    this.token = token;
    this.#wire.onBeat = (ms) => { this.latency = ms; this.emit('beat'); };
    this.#wire.onSilence = (ms) => this.#heardNothing(ms);
  }

  get isIdle() {
    return this.state.name === 'off' || this.state.name === 'refused';
  }

  /** Connects, until `stop`. */
  start() {
    this.client = connect(new URL('ws', this.#base), {
      clientId: this.name,
      token: this.token || null,
      parse,
      WebSocket: this.#wire.WebSocket,
      onMessage: (message) => this.#heard(message),
      onState: (name, detail) => this.#changed(name, detail),
    });
    for (const topic of this.topics.values()) this.#join(topic);
  }

  stop() {
    this.client?.close();
  }

  /** Uses another token, or none, from now on. */
  signIn(token) {
    this.token = token;
    if (!this.isIdle || this.state.name === 'refused') {
      this.#quiet = true;
      this.client?.close();
      this.#quiet = false;
      this.start();
    }
    this.emit('token');
  }

  /** Loses the connection for so many ms. */
  cut(ms) {
    this.#lost = performance.now();
    this.#wire.cut(ms);
  }

  /** The ms until a cut ends; 0 without one. */
  get cutFor() {
    return this.#wire.remaining;
  }

  /** Subscribes to a topic; with a position, to the events after it, also if it was subscribed before. */
  subscribe(name, position = null) {
    let topic = this.topics.get(name);
    if (topic && position) {
      topic.subscription?.close();
      topic.subscription = null;
    }
    if (!topic) this.topics.set(name, topic = new Topic(name));
    if (position) topic.position = position;
    if (this.client && !this.isIdle && (!topic.subscription || topic.subscription.over)) this.#join(topic);
    this.emit('subscriptions');
    return topic;
  }

  unsubscribe(name) {
    this.topics.get(name)?.subscription?.close();
    this.topics.delete(name);
    this.emit('subscriptions');
  }

  /** Adds something to the list of events. */
  log(entry) {
    this.emit('entry', { at: new Date(), ...entry });
  }

  #join(topic) {
    const { name } = topic;
    topic.phase = 'waiting';
    topic.subscription = this.client.subscribe(name, (item) => this.#take(topic, item), {
      recover: topic.position,
      onAck: (ack) => this.#acked(topic, ack),
      onRefused: (error) => {
        if (error.code === 'REFUSED') return; // the whole client is
        topic.phase = 'failed';
        topic.problem = this.#refusal = error.message;
        this.log({ kind: 'error', topic: name, text: `Not subscribed: ${error.message}` });
        this.emit('subscriptions');
      },
    });
  }

  #acked(topic, ack) {
    const before = topic.position;
    topic.phase = 'on';
    topic.problem = '';
    if (!topic.isNew || before) {
      const known = ack.epoch !== undefined;
      const missed = ack.recovered && before ? ack.offset - before.offset : 0;
      topic.until = ack.recovered ? ack.offset : null;
      this.#answers.push({ name: topic.name, known, recovered: ack.recovered === true, missed });
      if ([...this.topics.values()].every((it) => it.phase !== 'waiting')) this.#report();
    }
    topic.isNew = false;
    topic.position = null;
    this.emit('subscriptions');
  }

  /** Reports, once all topics are back, what was recovered. */
  #report() {
    const answers = this.#answers;
    this.#answers = [];
    const seconds = this.#lost === null ? null : (performance.now() - this.#lost) / 1_000;
    this.#lost = null;
    this.log({ kind: 'recovery', seconds, answers });
  }

  #take(topic, item) {
    const { name } = topic;
    if (item.kind === 'event') {
      this.received += 1;
      topic.count += 1;
      topic.rate.add();
      this.rate.add();
      const recovered = topic.until !== null && item.offset <= topic.until;
      this.emit('entry', { at: new Date(), ...item, recovered });
    } else if (item.kind === 'lost') {
      topic.until = null; // what follows may be of another epoch
      this.log({ kind: 'lost', topic: name, text: `${item.count ? 'Missing here' : 'Something may be missing here'}: ${item.why}.` });
    } else {
      this.log({ kind: 'info', topic: name, text: 'The topic was deleted.' });
      this.topics.delete(name);
      this.emit('subscriptions');
    }
  }

  /** Logs the messages of the server that are no events. */
  #heard(message) {
    const { type, topic, error, ts, reason } = message;
    if (reason === 'TOKEN_EXPIRES') this.emit('expires', message.expires_at);
    const problem = type === 'error' && `${error.code}: ${error.message}`;
    if (problem && problem !== this.#refusal) this.log({ kind: 'error', text: problem, ts, raw: message });
    this.#refusal = '';
    if (type === 'info' && topic === undefined) this.log({ kind: 'info', text: String(message.message.payload), ts, raw: message });
  }

  #changed(name, detail) {
    const before = this.state.name;
    if (name === 'open') {
      if (this.#lost !== null) this.log({ kind: 'note', text: 'Connected again.' });
      if (!this.topics.size) this.#lost = null;
    } else if (before === 'open' || before === 'stalled') {
      const silent = before === 'stalled' ? Date.now() - this.state.since : 0;
      this.#lost ??= performance.now() - silent;
      const why = this.cutFor ? 'cut here' : detail.why ?? 'by you';
      if (!this.#quiet) this.log({ kind: 'note', text: `Connection closed: ${why}.` });
      this.latency = null;
      this.#part();
    }
    if (name === 'closed') {
      this.#part();
      this.#enter(detail.error ? 'refused' : 'off', { why: detail.error?.text });
    } else {
      this.#enter(this.cutFor ? 'cut' : name, detail);
    }
  }

  #enter(name, detail = {}) {
    this.#wasOpen ||= name === 'open';
    const isSame = this.state.name === name || (this.state.isDown && name !== 'open');
    const isDown = name !== 'open';
    this.state = { ...detail, name, isDown, wasOpen: this.#wasOpen, since: isSame ? this.state.since : Date.now() - (detail.silent ?? 0), at: performance.now() };
    this.emit('state');
  }

  #heardNothing(ms) {
    if (ms && (this.state.name === 'open' || this.state.name === 'stalled')) this.#enter('stalled', { silent: ms });
    else if (!ms && this.state.name === 'stalled') this.#enter('open');
  }

  /** Marks all topics as not subscribed, and keeps their positions for the next connection. */
  #part() {
    for (const topic of this.topics.values()) {
      topic.position = topic.subscription?.position ?? topic.position;
      if (topic.phase === 'on') topic.phase = 'waiting';
    }
    this.#answers = [];
    this.emit('subscriptions');
  }
}
