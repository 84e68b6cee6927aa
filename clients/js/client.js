/**
 * A client of the broadcast server: one module without dependencies, which reports every loss.
 *
 *     import { connect } from "http://localhost:8080/client.js";
 *     const client = connect();
 *     const news = client.subscribe("news", (item) => console.log(item));
 *     await client.publish("news", { hello: "world" });
 *
 * It reconnects when the connection is lost, subscribes again, and recovers missed events if the topic
 * has a history. If events may be missing, the subscriber gets an item of the kind "lost" in their place.
 * A publish is settled by the server's answer, also after a reconnect; its idempotency key makes sure
 * that it is published once. Where WebSocket is blocked, it uses Server-Sent Events and HTTP.
 *
 * All times are in ms.
 */

/**
 * A place in a topic's order. All events up to it are known.
 * @typedef {{epoch: string, offset: number}} Position
 */

/**
 * One message of a topic.
 * @typedef {object} Event
 * @property {"event"} kind
 * @property {string} topic  the name of the topic
 * @property {any} id  the id of the message, unique on the server unless the publisher chose it
 * @property {any} payload  what was published: any JSON
 * @property {string} ts  when the server took it, in UTC, such as "2026-11-26T09:00:00Z"
 * @property {number} [offset]  its place in the topic's order; only with a history
 */

/**
 * Events are missing, or may be, in this place: load your state again.
 * @typedef {object} Lost
 * @property {"lost"} kind
 * @property {string} topic  the name of the topic
 * @property {string} why  the reason, as a text for people
 * @property {number} [count]  the number of lost events, if it is known
 */

/**
 * The topic was deleted. This is the last item of a subscription.
 * @typedef {{kind: "deleted", topic: string}} Deleted
 */

/**
 * What a subscription gets. `kind` says which it is.
 * @typedef {Event | Lost | Deleted} Item
 */

/**
 * A message of the server, as it came.
 * @typedef {{[key: string]: any, type: string}} Message
 */

/**
 * The server's answer to a subscribe or a publish.
 * @typedef {{[key: string]: any, topic: string, epoch?: string, offset?: number, recovered?: boolean,
 *   duplicate?: boolean, degraded?: boolean}} Ack
 */

/**
 * One message of a batch.
 * @typedef {object} BatchItem
 * @property {string} topic  the name of the topic
 * @property {any} payload  any JSON
 * @property {string} [key]  an idempotency key, as of `publish`
 */

/**
 * Past events of a topic.
 * @typedef {object} History
 * @property {string} topic  the name of the topic
 * @property {Event[]} events  in the order that was asked for
 * @property {Position} position  the place of the topic's newest event
 */

/**
 * A page of the list of topics.
 * @typedef {object} TopicPage
 * @property {number} count  the number of all topics
 * @property {{[name: string]: number}} topics  the number of subscribers of each topic
 * @property {string} [next]  pass it as `after` to get the next page, if there is one
 */

/**
 * The state of the connection: "waiting" is the pause before the next attempt, "closed" the end.
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 */

/**
 * What is known about a state.
 * @typedef {object} Detail
 * @property {string} [why]  why there is no connection; with "waiting"
 * @property {number} [attempt]  the number of the next attempt; with "waiting"
 * @property {number} [ms]  the time until the next attempt, in ms; with "waiting"
 * @property {RefusedError | null} [error]  why the client has ended, or null after `close`; with "closed"
 */

/**
 * Called with each new state of the connection.
 * @typedef {(...change: [state: "connecting" | "open", detail: Detail]
 *   | [state: "waiting", detail: Detail & {why: string, attempt: number, ms: number}]
 *   | [state: "closed", detail: Detail & {error: RefusedError | null}]) => void} StateListener
 */

/**
 * How a connection is made: by a WebSocket, or by Server-Sent Events and HTTP.
 * @typedef {"websocket" | "sse"} Transport
 */

/**
 * What the client needs of a WebSocket.
 * @typedef {{readyState?: number, send(text: string): void, close(): void, onopen: any, onmessage: any, onclose: any, onerror: any}} Socket
 */

/**
 * Options of `connect`.
 * @typedef {object} Options
 * @property {string} [clientId]  the name of the client in the server's lists; by default a random one
 * @property {string | null | (() => string | Promise<string>)} [token]  a token, or a function that returns one; it
 *   is called for each connection and each HTTP call, and before the token of an open connection expires
 * @property {{[name: string]: string}} [headers]  HTTP headers of handshakes and calls; not in browsers, where pages
 *   cannot set them
 * @property {{[name: string]: any}} [tls]  options of TLS for the package ws: `ca`, `cert`, `key`, `rejectUnauthorized`
 * @property {new (url: any, ...rest: any[]) => Socket} [WebSocket]  used in place of the global one, such as that of
 *   the package ws
 * @property {(url: any, init?: any) => Promise<any>} [fetch]  used in place of the global one
 * @property {Transport[]} [transports]  what may be used, in this order; by default `["websocket", "sse"]`
 * @property {StateListener} [onState]  the first listener, as of `client.onState`: it also hears of the first attempt
 * @property {(message: Message) => void} [onMessage]  called with every message of the server
 * @property {(text: string) => any} [parse]  used in place of JSON.parse
 */

/**
 * Options of `client.subscribe`: `lastN` or `recover` says where to begin; without both, with new events.
 * @typedef {object} SubscribeOptions
 * @property {number | null} [lastN]  the number of newest events to begin with
 * @property {Position | null} [recover]  the position after which to begin, such as a saved `subscription.position`
 * @property {(ack: Ack) => void} [onAck]  called with the first ack, and with one on each new connection
 * @property {(error: RefusedError) => void} [onRefused]  called if the server refuses or ends the subscription; by
 *   default, the error is logged
 */

const BUFFER = 1_000; // items buffered for an iterator; beyond that the oldest are dropped
const PENDING = 1_000; // maximum of unanswered publishes
const CONNECT_OPTIONS = ["clientId", "token", "headers", "tls", "WebSocket", "fetch", "transports", "onState", "onMessage", "parse"];
const DEFAULT_PACE = 1_000; // ms between subscribes if the server gives no time
const REPEATABLE = 240_000; // ms in which a publish is repeated: the server keeps keys for 300 s
const READY_WITHIN = 10_000; // ms: the default of Client.ready
const CALL_WITHIN = 10_000; // ms: the default of HTTP calls
const ANSWER_WITHIN = 10_000; // ms for an answer to a connect or a ping; then the connection is dead
const PING_EVERY = 25_000; // ms; messages, since browsers have no API for WebSocket pings
const NESTING = 250 + 1; // levels of nesting that the server accepts: a payload's, and the message
const FIRST = 500; // ms: maximum of the first pause before a reconnect; then it doubles …
const LONGEST = 20_000; // … up to this many ms
const BLOCKED = 2; // WebSockets in a row that did not open, after which the client uses streams
const SWALLOWED = 2_000; // ms for a WebSocket to open, if streams were needed before
const STREAM_TOPICS = 16; // topics of a stream: the server's maximum
const STREAMS = 3; // streams at a time: over HTTP/1.1, all tabs of a browser share 6 connections to a host
const SILENT = 150_000; // ms without a byte, after which a stream is dead; the server sends one every 54 s
const STEADY = 10_000; // ms that a connection must last to reset the pause
const REFUSALS = 2; // refusals of a token in a row, after which the client stops repeating it
const REPLACE_EVERY = 5_000; // ms, at least, between two replacements of the token
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/; // what a subprotocol may hold (RFC 9110, 5.6.2)

const CLOSING = 2; // the readyState of a WebSocket that one side is closing
const TOKEN_NEEDED = 3000; // the Close code for: get a token, then reconnect
const FORBIDDEN = 3003; // the Close code for: do not reconnect
const TOO_BIG = 1009; // the Close code for a message over MAX_MESSAGE_BYTES
// Close codes after which the client must not reconnect; after all others it does.
/** @type {Set<number>} */
const FOR_GOOD = new Set([1002, 1007, 1008, FORBIDDEN]);
const DELETED = "Topic has been deleted"; // from servers that give no reason
/** @type {{[code: number]: string}} */
const CLOSES = {
  1001: "the server went away",
  1006: "the connection was lost",
  1008: "refused by the server",
  1009: "a message was too big",
  1011: "internal error of the server",
  1013: "too slow, or the server is overloaded",
  3000: "a valid token is needed",
  3003: "forbidden by the server",
  3008: "something took too long",
};

// What a stream's last message means, as the Close of a WebSocket.
/** @type {{[word: string]: [number, string]}} */
const ENDS = {
  SHUTDOWN: [1001, "going_away"],
  SLOW_CONSUMER: [1013, "slow_consumer"],
  TOKEN_EXPIRED: [3000, "token_expired"],
  DISCONNECTED: [3000, "disconnected"],
};
// Error codes by HTTP status. 5xx is UNAVAILABLE, and all others are REFUSED.
/** @type {{[status: number]: string}} */
const STATUSES = {
  400: "INVALID_MESSAGE",
  401: "UNAUTHORIZED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  408: "UNAVAILABLE",
  410: "GONE",
  413: "TOO_BIG",
  429: "RATE_LIMITED",
};

/**
 * A request was refused, or the client was refused for good. `code` is the server's, or CLOSED (the
 * client was closed), REFUSED (for good), BUSY (too many publishes are pending), TOO_BIG, UNKNOWN (the request
 * may have been carried out), or TIMEOUT (it took longer than allowed).
 */
export class RefusedError extends Error {
  /**
   * @param {string} code
   * @param {string} text
   * @param {number} [retryAfterMs]
   */
  constructor(code, text, retryAfterMs) {
    super(`${code}: ${text}`);
    this.name = "RefusedError";
    this.code = code;
    this.text = text;
    this.retryAfterMs = retryAfterMs; // of RATE_LIMITED: when the same may succeed
  }
}

/** One subscriber's items, in order; create it with `Client.subscribe`. Without a callback, an async iterator. */
export class Subscription {
  #topic;
  #lastN;
  #recover;
  #position;
  #over = false;
  #begun = false; // whether the topic's items are for this subscription
  /** @type {Position | null} */
  #after = null; // events up to it are not for this subscription
  /** @type {[Item, Position | null][]} */
  #items = []; // buffered for the iterator, each with the position after it
  #overrun = 0; // items dropped because the buffer was full
  /** @type {(() => void)[]} */
  #waiters = []; // callbacks for the next item
  /** @type {RefusedError | null} */
  #error = null; // the refusal that ended it
  /** @type {Promise<void>} */
  #acked;
  /** @type {(error?: RefusedError) => void} */
  #settle = () => {}; // settles it
  #deliver;
  #options;
  #leave;

  /**
   * @internal
   * @param {string} topic
   * @param {((item: any) => unknown) | null} deliver
   * @param {SubscribeOptions} options
   * @param {(subscription: Subscription) => void} leave
   */
  constructor(topic, deliver, options, leave) {
    this.#topic = topic;
    this.#lastN = options.lastN ?? 0;
    this.#recover = this.#position = options.recover ?? null;
    this.#deliver = deliver;
    this.#options = options;
    this.#leave = leave;
    this.#acked = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve());
    });
    this.#acked.catch(() => {}); // a refusal is reported elsewhere, too
  }

  /** The topic's name. */
  get topic() {
    return this.#topic;
  }

  /**
   * The position after the last item that you got. Save it to recover on another page. Null if the topic
   * has no history, is not subscribed yet, or none of lastN has arrived.
   * @returns {Position | null}
   */
  get position() {
    return this.#position;
  }

  /**
   * Wait for the server's ack.
   * @param {{timeout?: number | null}} [options]  `timeout` in ms; null: no limit
   * @returns {Promise<void>}  rejected by a refusal; with CLOSED if it was closed before the ack; with TIMEOUT
   */
  async ready(options = {}) {
    checkNames("ready", options, ["timeout"]);
    const { timeout = null } = options;
    return within(timeout, this.#acked, (time) => `${this.#topic}: no ack of the server within ${time}`);
  }

  /** @returns {AsyncIterableIterator<Item>} */
  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<Item, undefined>>}  rejected if the server refuses the subscription, or the client */
  async next() {
    for (;;) {
      if (this.#overrun) {
        const count = this.#overrun;
        this.#overrun = 0;
        const why = `${count} items, since more than ${BUFFER} waited here`;
        return { done: false, value: { kind: "lost", topic: this.#topic, why, count } };
      }
      const first = this.#items.shift();
      if (first) {
        const [value, position] = first;
        this.#position = position;
        return { done: false, value };
      }
      if (this.#error) throw this.#error;
      if (this.#over) return { done: true, value: undefined };
      await new Promise((resolve) => this.#waiters.push(() => resolve(null)));
    }
  }

  /**
   * Called by `for await` at a break.
   * @returns {Promise<IteratorResult<Item, undefined>>}
   */
  async return() {
    this.close();
    return { done: true, value: undefined };
  }

  /** Drop the buffered items and end the subscription; unsubscribe if it is the topic's last one. */
  close() {
    this.#items = [];
    this.#overrun = 0;
    this.#leave(this);
  }

  // Called by the topic and the client.

  /** @internal */
  get _over() {
    return this.#over;
  }

  /** @internal */
  get _begun() {
    return this.#begun;
  }

  /** The lastN or recover of a subscribe command. @internal */
  get _start() {
    return { lastN: this.#lastN, recover: this.#recover };
  }

  /**
   * Get the topic's items from its ack on, if both subscriptions begin in the same place.
   * @internal
   * @param {Subscription} first
   */
  _joinBefore(first) {
    const { lastN, recover } = first._start;
    this.#begun = this.#lastN === lastN && isSamePlace(this.#recover, recover);
  }

  /**
   * Record the server's ack.
   * @internal
   * @param {Position | null} position  the begin, if it is not the requested one
   */
  _acked(position = null) {
    this.#position = position ?? this.#position;
    this.#settle();
  }

  /**
   * Pass on an ack: the topic's first, or one on a new connection.
   * @internal
   * @param {Ack} ack
   */
  _heardAck(ack) {
    if (this.#options.onAck) attempt(this.#options.onAck, ack);
  }

  /**
   * Begin at the topic's current position; report earlier events that were wanted as lost.
   * @internal
   * @param {Position | null} position
   */
  _begin(position) {
    if (this.#over) return;
    const wanted = this.#recover;
    const ahead = wanted && position && wanted.epoch === position.epoch && wanted.offset > position.offset; // the topic may not have reached it yet
    const here = ahead ? wanted : position;
    const newest = this.#lastN && here?.offset;
    this.#begun = true;
    this.#after = here;
    if (newest || (wanted && !isSamePlace(wanted, here))) {
      const why = "what was published before, since the topic was subscribed already";
      console.warn(`${this.#topic}: lost: ${why}`);
      this._put({ kind: "lost", topic: this.#topic, why }, here);
      this._acked();
    } else {
      this._acked(here);
    }
  }

  /**
   * Deliver or buffer an item.
   * @internal
   * @param {Item} item
   * @param {Position | null} position  the subscriber's position after it
   */
  _put(item, position) {
    if (this.#over || !this.#begun) return; // a callback of another may just have closed it
    if (this.#after !== null && item.kind === "event" && covers(this.#after, position)) return;
    if (this.#deliver) {
      this.#position = position;
      attempt(this.#deliver, item);
      return;
    }
    if (this.#items.length >= BUFFER) {
      if (!this.#overrun) console.warn(`${this.#topic}: lost: items, since more than ${BUFFER} wait`);
      this.#items.shift();
      this.#overrun += 1;
    }
    this.#items.push([item, position]);
    this.#wake();
  }

  /**
   * End the subscription; `error` is passed to the subscriber.
   * @internal
   * @param {RefusedError | null} error
   */
  _end(error = null) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#wake();
    this.#settle(error ?? new RefusedError("CLOSED", "it was closed before the server acked it"));
    if (error && this.#options.onRefused) attempt(this.#options.onRefused, error);
    else if (error && this.#deliver) console.error(`${this.#topic}: ${error.message}`);
  }

  #wake() {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}

/** A topic, subscribed once on the wire for all its subscriptions: it finds new events, repetitions and losses. */
class Topic {
  /** @type {Subscription[]} */
  subscriptions = []; // those that share it; a new array with each change, since callbacks may change it
  live = false; // whether the current connection has acked it
  wasAcked = false; // whether any connection has
  refusals = 0; // number of temporary refusals since the last ack
  #first; // the subscription whose lastN or recover is sent to the server
  #position; // the position up to which events have arrived
  #newest; // earlier events to ask for; 0 once one has arrived
  #begun; // whether missed events are a loss

  /**
   * @param {string} name
   * @param {Subscription} first
   */
  constructor(name, first) {
    const { lastN, recover } = first._start;
    this.name = name;
    this.#first = first;
    this.#position = recover;
    this.#newest = lastN;
    this.#begun = recover !== null;
  }

  /**
   * Add a subscription; after the topic's ack, it begins at the current position.
   * @param {Subscription} subscription
   */
  join(subscription) {
    this.subscriptions = [...this.subscriptions, subscription];
    if (!this.wasAcked) subscription._joinBefore(this.#first);
    else queueMicrotask(() => subscription._begin(this.#position)); // later, since it may call the callback
  }

  /** @param {Subscription} subscription */
  leave(subscription) {
    this.subscriptions = this.subscriptions.filter((it) => it !== subscription);
  }

  /** Return the subscribe command, without a request_id. */
  request() {
    const request = { type: "subscribe", topic: this.name };
    if (this.#newest) return { ...request, last_n: this.#newest };
    return this.#position ? { ...request, recover: this.#position } : request;
  }

  /**
   * Handle the server's ack of a subscribe, the first or one on a new connection.
   * @param {Ack} ack
   */
  acked(ack) {
    // If lastN is asked for again because none of its events had arrived, that is no loss within an
    // epoch: the first event shows whether there is a hole.
    const again = this.#newest && this.#position && this.#position.epoch === ack.epoch;
    const top = ack.epoch === undefined ? null : { epoch: ack.epoch, offset: ack.offset ?? 0 };
    let start = null;
    if (!ack.recovered && !again) {
      this.#position = top;
      if (!top?.offset) this.#newest = 0; // there are none
      const why = top ? "which the server has forgotten" : "for want of a history";
      if (this.#begun) this.#lose(`what was published meanwhile, ${why}`);
      else if (!this.#newest) start = top;
    }
    const isFirst = !this.wasAcked;
    this.live = this.wasAcked = this.#begun = true;
    this.refusals = 0;
    for (const subscription of this.subscriptions) {
      if (subscription._over) continue; // a callback of another has just closed it
      if (isFirst && subscription._begun) subscription._acked(start);
      else if (isFirst) subscription._begin(top);
      subscription._heardAck(ack);
    }
  }

  /**
   * Handle an event that arrived after the ack.
   * @param {Message} message
   */
  event({ message: { id, payload }, ts, offset }) {
    if (offset === undefined) this.#put({ kind: "event", topic: this.name, id, payload, ts });
    else if (this.#isNew(offset)) this.#put({ kind: "event", topic: this.name, id, payload, ts, offset });
  }

  /**
   * Handle an info of the topic that arrived after the ack.
   * @param {Message} message
   */
  info(message) {
    if (reasonOf(message) !== "GAP") return;
    const { epoch, offset, dropped: count } = message.message.payload;
    if (epoch) {
      // Within an epoch the position never goes back, unless the newest events follow.
      const last = this.#position;
      const same = last && epoch === last.epoch && !this.#newest;
      this.#position = { epoch, offset: same ? Math.max(last.offset, offset) : offset };
      this.#newest = 0;
    }
    this.#lose(`${count ?? "some"} events, on their way here`, count);
  }

  /** Handle the topic's deletion: its item is the last of each subscription. */
  delete() {
    this.#put({ kind: "deleted", topic: this.name });
    this.end();
  }

  /**
   * End all subscriptions; `error` is passed to the subscribers.
   * @param {RefusedError | null} error
   */
  end(error = null) {
    this.live = false;
    for (const subscription of this.subscriptions) subscription._end(error);
  }

  /**
   * Return whether an event is no repetition; report a hole before it as lost.
   * @param {number} offset
   */
  #isNew(offset) {
    if (!this.#position) return true;
    const missing = offset - this.#position.offset - 1;
    if (missing < 0 && !this.#newest) return false;
    if (missing > 0) this.#lose(`${missing} events, which the server did not send`, missing);
    this.#newest = 0;
    this.#position = { epoch: this.#position.epoch, offset };
    return true;
  }

  /**
   * @param {string} why
   * @param {number} [count]
   */
  #lose(why, count) {
    console.warn(`${this.name}: lost: ${why}`);
    this.#put({ kind: "lost", topic: this.name, why, ...(count && { count }) });
  }

  /** @param {Item} item */
  #put(item) {
    const position = this.#position; // a callback may close and add subscriptions
    for (const subscription of this.subscriptions) subscription._put(item, position);
  }
}

/**
 * The source of a client's tokens: a string, or a function that is called for each connection. No log line and no
 * error has a token in it, nor the message of an error that a token function threw.
 */
class Token {
  /** @type {string | null} */
  current = null; // what the current connection has sent last
  refusals = 0; // in a row, of the tokens of handshakes
  #source;
  /** @type {object | null} */
  #asking = null; // the newest call of the function for a connection, until it is settled

  /** @param {Options["token"]} source */
  constructor(source) {
    if (source != null && typeof source !== "function" && !isToken(source))
      throw new TypeError("token must be a string of the characters that a subprotocol may have, or a function");
    this.#source = source ?? null;
  }

  get isGiven() {
    return this.#source !== null;
  }

  get isRenewable() {
    return typeof this.#source === "function";
  }

  /** The token if the source is a string; null without a token. */
  get fixed() {
    return typeof this.#source === "string" ? this.#source : null;
  }

  /**
   * Return a token, for which a function is called; null without a token.
   * @returns {Promise<string | null>}
   */
  async fetch() {
    const source = this.#source; // called without this object as its `this`
    if (typeof source !== "function") return source;
    const calling = new Promise((resolve) => resolve(source())).catch((fault) => {
      throw new RefusedError("UNAVAILABLE", `the token function failed (${nameOf(fault)})`);
    });
    const token = await within(ANSWER_WITHIN, calling, (time) => `the token function took over ${time}`);
    if (!isToken(token)) {
      const what = typeof token === "string" ? "another string, such as one with a line break" : typeof token;
      throw new RefusedError("UNAVAILABLE", `the token function returned no token, but ${what}`);
    }
    return token;
  }

  /**
   * Call the function, then `done` with its token, or `failed` with the reason; neither after stop().
   * @param {(token: string) => void} done
   * @param {(why: string) => void} failed
   */
  ask(done, failed) {
    const asking = (this.#asking = {});
    const settle = (/** @type {() => void} */ act) => {
      if (asking !== this.#asking) return;
      this.#asking = null;
      act();
    };
    this.fetch().then(
      (token) => settle(() => done(/** @type {string} */ (token))),
      (refusal) => settle(() => failed(refusal.text)),
    );
  }

  stop() {
    this.#asking = null;
  }
}

/** HTTP requests to the server of a WebSocket's address. */
class Http {
  #base;
  #headers;
  #fetch;

  /**
   * @param {URL} url
   * @param {Options} options
   */
  constructor(url, options) {
    this.#base = new URL(".", url);
    this.#base.protocol = url.protocol.replace("ws", "http");
    this.#base.username = this.#base.password = "";
    this.#headers = options.headers;
    this.#fetch = options.fetch ?? globalThis.fetch;
  }

  /**
   * @param {string} path  relative to the server's address, with the query
   * @param {string | null} token
   * @param {{method?: string, body?: string, signal: AbortSignal}} init
   * @returns {Promise<any>}  the response
   */
  send(path, token, init) {
    const fetch = this.#fetch; // browsers refuse it as a method of another object
    const bearer = token === null ? undefined : { Authorization: `Bearer ${token}` };
    return fetch(String(new URL(path, this.#base)), { cache: "no-store", redirect: "error", ...init, headers: { ...this.#headers, ...bearer } });
  }
}

/** One response of `GET /events`. */
class Stream {
  control = new AbortController();
  heard = performance.now(); // when the newest bytes came
  stale = false; // whether it must be opened again, as the token or the topics are others
  /** @type {[number, string]} */
  end = [1006, ""]; // the Close that its end means
  fault = ""; // what the server said about its end
  #rest = ""; // the beginning of a line
  #data = "";
  #ids; // the positions in the topics, as the server writes them

  /**
   * @param {Map<string, string>} places  of each topic: EPOCH:OFFSET, or - without a position
   * @param {Map<string, Message>} commands  the subscribes that are not acked yet, by topic
   */
  constructor(places, commands) {
    this.names = [...places.keys()];
    this.wanted = new Set(this.names); // without those that were unsubscribed
    this.commands = commands;
    this.unacked = new Set(this.names);
    this.#ids = [...places.values()].join();
  }

  /** The position in each topic that is wanted. */
  get places() {
    const ids = this.#ids.split(",");
    const places = this.names.map((name, number) => /** @type {[string, string]} */ ([name, ids[number]]));
    return new Map(places.filter(([name]) => this.wanted.has(name)));
  }

  /** Whether nothing is lost if it is opened again: each topic has a history. */
  get isMovable() {
    return ![...this.places.values()].includes("-");
  }

  get path() {
    const query = new URLSearchParams(this.names.map((name) => ["topic", name]));
    if (/\d/.test(this.#ids)) query.set("last_event_id", this.#ids);
    for (const { last_n } of this.commands.values()) if (last_n) query.set("last_n", last_n);
    return `events?${query}`;
  }

  /**
   * Return the texts of the messages that are complete with these bytes.
   * @param {string} text
   */
  feed(text) {
    this.heard = performance.now();
    const messages = [];
    const lines = (this.#rest + text).split(/\r?\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data += line.slice(5);
      else if (line.startsWith("id:")) this.#ids = line.slice(3).trim();
      else if (line === "" && this.#data) {
        messages.push(this.#data);
        this.#data = "";
      }
    }
    return messages;
  }
}

/**
 * The interface of a WebSocket over HTTP, for networks that block WebSocket. Theory of operation: events come in
 * streams (`GET /events`), publishes go by `POST /publish`. The topics of a stream are fixed. For another topic, a
 * stream is opened again with the positions that it has reached, if all its topics have a history; else a new one is
 * opened, up to STREAMS; else a stream is opened again although its topics without a history lose events then, which
 * their acks say. One stream is opened at a time, and publishes wait for it, since a command takes effect after those
 * that were sent before. `onmessage` gets parsed messages.
 */
class EventSocket {
  onopen = () => {};
  onmessage = (/** @type {{message: Message}} */ _) => {};
  onclose = (/** @type {{code: number, reason: string}} */ _) => {};
  onerror = (/** @type {{message: string}} */ _) => {};
  #http;
  #token;
  #parse;
  #isOpen = false;
  #isClosed = false;
  /** @type {Set<AbortController>} */
  #controls = new Set(); // of requests under way; one each, since a signal keeps a listener of each request
  /** @type {Set<Stream>} */
  #streams = new Set();
  /** @type {Stream | null} */
  #opening = null; // the stream whose acks have not come
  /** @type {Message[]} */
  #subscribes = []; // those that are in no stream yet
  /** @type {[string, Message][]} */
  #publishes = []; // those that wait until streams are open
  /** @type {Map<string, Promise<void>>} */
  #sending = new Map(); // the newest publish of each topic: they are sent one by one, to keep their order

  /**
   * @param {Http} http
   * @param {string | null} token
   * @param {(text: string) => any} parse
   */
  constructor(http, token, parse) {
    this.#http = http;
    this.#token = token;
    this.#parse = parse;
    this.#probe();
  }

  /** Open, if the server answers, and accepts the token. */
  async #probe() {
    const answered = await this.#request("topics?limit=1", withJson);
    if (!answered) return;
    const [response, answer] = answered;
    if (response.status === 401) this.#end(TOKEN_NEEDED, "unauthorized");
    else if (response.status === 403) this.#end(FORBIDDEN, "forbidden");
    else if (!response.ok || !answer) this.#lose(`HTTP ${response.status}`);
    else if (!this.#isClosed) {
      this.#isOpen = true;
      this.onopen();
    }
  }

  /** @param {string} text */
  send(text) {
    const command = JSON.parse(text);
    if (command.type === "subscribe") this.#subscribes.push(command);
    else if (command.type === "publish") this.#publishes.push([text, command]);
    else if (command.type === "unsubscribe") this.#unsubscribe(command.topic);
    else if (command.type === "auth") this.#authenticate(command);
    else if (command.type === "ping") this.#ping();
    queueMicrotask(() => this.#next()); // subscribes that come together share a stream
  }

  close() {
    this.#isClosed = true;
    for (const control of this.#controls) control.abort();
    for (const stream of this.#streams) stream.control.abort();
    this.#streams.clear();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    if (this.#isClosed) return;
    this.close();
    this.onclose({ code, reason });
  }

  /**
   * End, since the server cannot be reached, or does not answer as it should.
   * @param {string} why
   */
  #lose(why = "") {
    if (why && !this.#isClosed) this.onerror({ message: why });
    this.#end(1006, "");
  }

  /** @param {Message} message */
  #say(message) {
    if (!this.#isClosed) this.onmessage({ message });
  }

  /**
   * Return what `read` makes of the response, or null if there is none: then the connection is lost, or the request
   * was aborted.
   * @template T
   * @param {string} path
   * @param {(response: any) => T | Promise<T>} read
   * @param {{method?: string, body?: string}} init
   * @returns {Promise<T | null>}
   */
  async #request(path, read, init = {}, control = new AbortController()) {
    this.#controls.add(control);
    // Without an answer to the first request, the reason of the WebSocket says more.
    const why = this.#isOpen ? `no answer within ${seconds(ANSWER_WITHIN)}` : "";
    const timer = setTimeout(() => this.#lose(why), ANSWER_WITHIN);
    try {
      return await read(await this.#http.send(path, this.#token, { ...init, signal: control.signal }));
    } catch (fault) { // a TypeError of the network, or an AbortError
      if (!control.signal.aborted) this.#lose(reasonIn(fault));
      return null;
    } finally {
      clearTimeout(timer);
      this.#controls.delete(control);
    }
  }

  #ping() {
    const now = performance.now();
    if ([...this.#streams].some((it) => now - it.heard > SILENT)) return;
    queueMicrotask(() => this.#say({ type: "pong" }));
  }

  /** @param {Message} command */
  #authenticate({ token, request_id }) {
    this.#token = token;
    for (const stream of this.#streams) stream.stale = true;
    queueMicrotask(() => this.#say({ type: "ack", request_id, status: "ok" }));
  }

  /** @param {string} topic */
  #unsubscribe(topic) {
    this.#subscribes = this.#subscribes.filter((it) => it.topic !== topic);
    for (const stream of this.#streams) {
      if (!stream.wanted.delete(topic)) continue;
      stream.commands.delete(topic);
      this.#acked(stream, topic);
      if (!stream.wanted.size) this.#drop(stream);
      else if (stream.isMovable) stream.stale = true;
    }
  }

  /** @param {Stream} stream */
  #drop(stream) {
    stream.control.abort();
    this.#streams.delete(stream);
    if (this.#opening === stream) this.#opening = null;
  }

  /**
   * @param {Stream} stream
   * @param {string} topic
   */
  #acked(stream, topic) {
    stream.unacked.delete(topic);
    if (stream.unacked.size || this.#opening !== stream) return;
    this.#opening = null;
    queueMicrotask(() => this.#next());
  }

  // Opening streams, one at a time; then publishing.

  #next() {
    if (this.#isClosed || this.#opening) return;
    const stale = [...this.#streams].find((it) => it.stale);
    if (stale) this.#open(stale, []);
    else if (this.#subscribes.length) this.#subscribe();
    else for (const [text, command] of this.#publishes.splice(0)) this.#publish(text, command);
  }

  /** Open a stream for the first subscribe that waits, and others that fit. */
  #subscribe() {
    const open = [...this.#streams].filter((it) => it.wanted.size < STREAM_TOPICS);
    const base = open.find((it) => it.isMovable) ?? (this.#streams.size < STREAMS ? null : open[0]);
    const newest = this.#subscribes[0].last_n;
    const chosen = this.#subscribes
      .filter((it) => it.recover || it.last_n === newest) // a stream has one last_n, for topics without a position
      .slice(0, STREAM_TOPICS - (base?.wanted.size ?? 0));
    this.#subscribes = this.#subscribes.filter((it) => !chosen.includes(it));
    if (base !== undefined) return this.#open(base, chosen);
    const text = `without a WebSocket, at most ${STREAMS * STREAM_TOPICS} topics can be subscribed`;
    for (const { request_id } of chosen)
      this.#say({ type: "error", request_id, error: { code: "LIMIT_EXCEEDED", message: text } });
    queueMicrotask(() => this.#next());
  }

  /**
   * Open a stream for the topics of another one, which ends, and of more subscribes.
   * @param {Stream | null} base
   * @param {Message[]} subscribes
   */
  #open(base, subscribes) {
    const places = base?.places ?? new Map();
    const commands = new Map(base?.commands);
    if (base) this.#drop(base);
    for (const command of subscribes) {
      const { topic, recover } = command;
      places.set(topic, recover ? `${recover.epoch}:${recover.offset}` : "-");
      commands.set(topic, command);
    }
    const stream = (this.#opening = new Stream(places, commands));
    this.#streams.add(stream);
    this.#read(stream);
  }

  /** @param {Stream} stream */
  async #read(stream) {
    const response = await this.#request(stream.path, (it) => it, {}, stream.control);
    if (!response) return;
    if (!response.ok) return this.#refused(stream, response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const read = () => reader.read().catch(() => ({ done: true })); // it was cut, or aborted
    for (let part = await read(); !part.done; part = await read())
      for (const text of stream.feed(part.value)) {
        if (stream.control.signal.aborted) return;
        this.#take(stream, this.#parse(text));
      }
    if (!this.#streams.has(stream)) return;
    if (stream.fault && !this.#isClosed) this.onerror({ message: stream.fault });
    this.#end(...stream.end);
  }

  /**
   * @param {Stream} stream
   * @param {Message} message
   */
  #take(stream, message) {
    const { type, topic } = message;
    if (topic === undefined) {
      const word = message.reason ?? message.error?.code;
      stream.end = message.until ? [FORBIDDEN, "forbidden"] : ENDS[word] ?? stream.end;
      if (type === "error") stream.fault = `${word}: ${message.error.message}`;
      this.#say(message);
    } else if (stream.wanted.has(topic)) {
      const request_id = stream.commands.get(topic)?.request_id;
      if (type === "ack") stream.commands.delete(topic);
      else if (type === "info" && reasonOf(message) === "TOPIC_DELETED") stream.wanted.delete(topic);
      this.#say(type === "ack" && request_id ? { ...message, request_id } : message);
      if (type === "ack") this.#acked(stream, topic);
      if (!stream.wanted.size) this.#drop(stream);
    }
  }

  /**
   * Find the topics for which a stream was refused, and open it without them.
   * @param {Stream} stream
   * @param {any} response
   */
  async #refused(stream, response) {
    const whole = await refusalOf(response);
    if (response.status === 401 && this.#token !== null) return this.#end(TOKEN_NEEDED, "unauthorized");
    if (response.status >= 500 || response.status === 429) return this.#lose(`HTTP ${response.status}: ${whole.text}`);
    const names = [...stream.wanted];
    const refusals = names.length === 1 ? [whole] : await Promise.all(names.map((name) => this.#check(name)));
    if (this.#isClosed || !this.#streams.has(stream)) return;
    if (!refusals.some((it) => it)) return this.#lose(`HTTP ${response.status}: ${whole.text}`);
    names.forEach((topic, number) => {
      const refusal = refusals[number];
      if (!refusal) return;
      const command = stream.commands.get(topic);
      const error = { code: refusal.code, message: refusal.text };
      stream.wanted.delete(topic);
      stream.commands.delete(topic);
      if (command) this.#say({ type: "error", request_id: command.request_id, error });
      else this.#say({ type: "info", topic, reason: "FORBIDDEN", message: { payload: refusal.text } });
    });
    stream.stale = true;
    this.#opening = null;
    if (!stream.wanted.size) this.#drop(stream);
    this.#next();
  }

  /**
   * Return the refusal of a stream of one topic; null if it is allowed.
   * @param {string} topic
   */
  async #check(topic) {
    const control = new AbortController();
    const read = (/** @type {any} */ response) => (response.ok ? null : refusalOf(response));
    const refusal = await this.#request(`events?${new URLSearchParams({ topic })}`, read, {}, control);
    control.abort();
    return refusal;
  }

  /**
   * Publish after those that were sent to the same topic before.
   * @param {string} text
   * @param {Message} command
   */
  #publish(text, { topic, request_id }) {
    const before = this.#sending.get(topic) ?? Promise.resolve();
    const sending = before.then(() => this.#post(text, request_id));
    this.#sending.set(topic, sending);
    sending.then(() => this.#sending.get(topic) === sending && this.#sending.delete(topic));
  }

  /**
   * @param {string} body
   * @param {string} request_id
   */
  async #post(body, request_id) {
    if (this.#isClosed) return;
    const answered = await this.#request("publish", withJson, { method: "POST", body });
    if (!answered) return;
    const [response, answer] = answered;
    if (response.ok && answer) {
      this.#say({ ...answer, type: "ack", request_id, status: "ok" });
    } else if (response.status === 401 && this.#token !== null) {
      this.#end(TOKEN_NEEDED, "unauthorized");
    } else if (!answer || response.status >= 502 && response.status !== 503) {
      this.#lose(`HTTP ${response.status}`); // the answer of a proxy: the server may have carried it out
    } else {
      const { code, text, retryAfterMs } = missingTopic(refusalFor(response, answer));
      this.#say({ type: "error", request_id, error: { code, message: text, retry_after_ms: retryAfterMs } });
    }
  }
}

/** A client that reconnects; create it with `connect`. */
export class Client {
  #url;
  #name; // the address without secrets, for errors and the log
  #options;
  /** @type {Transport[]} */
  #transports;
  /** @type {State} */
  #state = "connecting";
  /** @type {Set<{listener: StateListener}>} */
  #listeners = new Set(); // of the state
  #why = ""; // why the newest connection ended, or could not be opened
  #fault = ""; // what the newest socket said about its failure
  #http;
  /** @type {Socket | null} */
  #socket = null; // the newest; null between connections
  /** @type {Transport | null} */
  #via = null; // its kind
  #blocked = 0; // WebSockets in a row that did not open
  #hadOne = false; // whether a WebSocket was open since streams were used
  #open = false;
  #opened = 0; // the time when it opened
  /** @type {RefusedError | null} */
  #error = null; // the reason why the client has ended
  /** @type {Promise<void>} */
  #ended;
  /** @type {() => void} */
  #settleEnd = () => {}; // settles it
  #attempt = 0; // reconnects since the last steady connection
  #requests = 0;
  #pinged = 0; // the time of the newest ping
  /** @type {number | null} */
  #latency = null;
  // Timers: of the next ping, of a missing answer, of the next attempt.
  /** @type {any} */
  #pinger;
  /** @type {any} */
  #alarm;
  /** @type {any} */
  #retry;
  /** @type {Topic[]} */
  #paced = []; // topics whose subscribes came too fast, to be repeated
  #pace = 0; // ms between two of them
  /** @type {any} */
  #pacer; // the timer of the next of them
  /** @type {{min_ms: number, max_ms: number} | null} */
  #span = null; // of the next pause, if the server has set it
  #token;
  /** @type {{request_id: string, token: string, again: (why: string) => void} | null} */
  #auth = null; // the auth that is not answered
  #invalid = 0; // tokens in a row that the server refused on this connection
  /** @type {any} */
  #replacing; // the next attempt to replace the token
  #replaced = -REPLACE_EVERY; // when the token function was last asked for a replacement
  /** @type {Map<string, Topic>} */
  #topics = new Map(); // by name
  /** @type {Map<string, Topic>} */
  #asked = new Map(); // topics whose subscribe was sent on this connection, by request_id
  /** @type {Map<string, {text: string, resolve: (ack: any) => void, reject: (error: any) => void, sent: number | null}>} */
  #publishes = new Map(); // unanswered ones by request_id, in sending order
  /** @type {Set<AbortController>} */
  #calls = new Set(); // of HTTP calls under way
  #online = () => (this.#open ? this.#ping() : this.retry());

  /**
   * @internal
   * @param {string | URL} url
   * @param {Options} options
   */
  constructor(url, options) {
    checkNames("connect", options, CONNECT_OPTIONS);
    this.#url = parseUrl(url);
    this.#name = `${this.#url.protocol}//${this.#url.host}${this.#url.pathname}`;
    this.#transports = checkOptions(options);
    this.#http = new Http(this.#url, options);
    this.#url.searchParams.set("client_id", options.clientId || `js-${random(4)}`);
    this.#options = options;
    if (options.onState) this.onState(options.onState);
    this.#token = new Token(options.token);
    this.#ended = new Promise((resolve, reject) => {
      this.#settleEnd = () => (this.#error?.code === "CLOSED" ? resolve() : reject(this.#error));
    });
    this.#ended.catch(() => {}); // it is also in the log
    this.#connect();
    globalThis.addEventListener?.("online", this.#online);
  }

  /**
   * The state of the connection.
   * @returns {State}
   */
  get state() {
    return this.#state;
  }

  /**
   * How an open connection was made; null without one.
   * @returns {Transport | null}
   */
  get transport() {
    return this.#open ? this.#via : null;
  }

  /**
   * Round trip of the newest ping in ms; null before it, and with streams.
   * @returns {number | null}
   */
  get latency() {
    return this.#latency;
  }

  /**
   * Call `listener` with each new state. The state at the time of the call is in `state`.
   * @param {StateListener} listener
   * @returns {() => void}  removes the listener
   */
  onState(listener) {
    const entry = { listener }; // the same function may be added twice
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /**
   * Wait until the connection is open. After a timeout the client still tries to connect.
   * @param {{timeout?: number | null}} [options]  `timeout` in ms; null: no limit
   * @returns {Promise<void>}  rejected with TIMEOUT, which says why the last attempt failed, or with the error
   *   that ended the client
   */
  async ready(options = {}) {
    checkNames("ready", options, ["timeout"]);
    const { timeout = READY_WITHIN } = options;
    let remove = () => {};
    /** @type {Promise<void>} */
    const opened = new Promise((resolve, reject) => {
      const look = () => {
        if (this.#error) reject(this.#error);
        else if (this.#open) resolve();
      };
      remove = this.onState(look);
      look();
    });
    const late = (/** @type {string} */ time) =>
      `no connection to ${this.#name} within ${time}: ${this.#why || "the server has not answered"}`;
    return within(timeout, opened, late).finally(remove);
  }

  /**
   * Wait until the client is closed.
   * @returns {Promise<void>}  rejected if the server has refused the client
   */
  ended() {
    return this.#ended;
  }

  /**
   * Subscribe to a topic. Several subscriptions may share a topic.
   * @param {string} topic
   * @param {((item: Item) => unknown) | null} callback  called with each item; without it, iterate over the
   *   subscription
   * @param {SubscribeOptions} options  the server gets `lastN` or `recover` of the topic's first subscription
   *   only; a later one with others begins at the topic's current position, with an item of the kind "lost"
   * @returns {Subscription}
   */
  subscribe(topic, callback = null, options = {}) {
    if (callback && typeof callback !== "function")
      throw new TypeError("subscribe: the callback must be a function; options come after it, or after null");
    checkNames("subscribe", options, ["lastN", "recover", "onAck", "onRefused"]);
    if (this.#error) throw this.#error;
    if (options.lastN && options.recover) throw new Error("give lastN, or recover, and not both");
    const made = new Subscription(topic, callback, options, (it) => this.#leave(it));
    const known = this.#topics.get(topic);
    if (known) known.join(made);
    else this.#add(new Topic(topic, made), made);
    return made;
  }

  /**
   * Publish a message, and wait for the server's answer.
   * @param {string} topic
   * @param {any} payload  any JSON
   * @param {{key?: string, timeout?: number | null}} options  `key`: an idempotency key, to repeat a publish whose
   *   outcome is unknown; `timeout` in ms, after which it is not sent again; null: no limit
   * @returns {Promise<Ack>}  the ack; rejected with a RefusedError if the message was not published, or
   *   (UNKNOWN, CLOSED, TIMEOUT) may have been; with another error if the payload is not JSON that the server can read
   */
  async publish(topic, payload, options = {}) {
    checkNames("publish", options, ["key", "timeout"]);
    const { key = random(16), timeout = null } = options;
    const request_id = `p${++this.#requests}`;
    /** @type {Promise<Ack>} */
    const published = new Promise((resolve, reject) => {
      if (this.#error) throw this.#error;
      if (this.#publishes.size >= PENDING) throw new RefusedError("BUSY", `${PENDING} publishes wait for their answers`);
      const text = encode({ type: "publish", request_id, topic, payload, idempotency_key: key });
      this.#publishes.set(request_id, { text, resolve, reject, sent: null });
      this.#sendPublish(request_id);
    });
    if (timeout === null) return published;
    return within(timeout, published, (time) => {
      this.#publishes.delete(request_id);
      return `${topic}: no answer to a publish within ${time}; it may have been carried out`;
    });
  }

  /**
   * Publish up to 1,000 messages in one HTTP request. It is repeated, with the same keys, if the connection is lost
   * or the server is not available, until the timeout.
   * @param {BatchItem[]} items
   * @param {{timeout?: number | null}} options  `timeout` in ms; null: no limit
   * @returns {Promise<(Ack | RefusedError)[]>}  for each item, in order, the server's answer, or why it was refused;
   *   rejected if the whole request was
   */
  async publishBatch(items, options = {}) {
    checkNames("publishBatch", options, ["timeout"]);
    for (const item of items) checkNames("an item of publishBatch", item, ["topic", "payload", "key"]);
    const { timeout = CALL_WITHIN } = options;
    const texts = items.map(({ topic, payload, key = random(16) }) => encode({ topic, payload, idempotency_key: key }));
    const body = `{"items":[${texts.join()}]}`;
    const begun = Date.now();
    const { results } = await this.#call(timeout, "; it may have been carried out", async (signal) => {
      for (let repeats = 0; ; repeats += 1) {
        try {
          return await this.#ask("publish/batch", { method: "POST", body, signal });
        } catch (fault) {
          if (!(fault instanceof RefusedError) || fault.code !== "UNAVAILABLE") throw fault;
          if (Date.now() - begun > REPEATABLE) throw new RefusedError("UNKNOWN", `${fault.text}; it may have been carried out`);
          await new Promise((resolve) => setTimeout(resolve, fault.retryAfterMs ?? pause(repeats)));
          if (signal.aborted) throw fault;
        }
      }
    });
    return results.map((/** @type {any} */ it) => ("error" in it ? new RefusedError("REFUSED", it.error) : it));
  }

  /**
   * Read the history of a topic, without a subscription.
   * @param {string} topic
   * @param {{limit?: number, sinceEpoch?: string, sinceOffset?: number, reverse?: boolean, wait?: number,
   *   timeout?: number | null}} options  `limit`: maximum number of events, 100 by default; `sinceEpoch` and
   *   `sinceOffset`: a position, after which the events begin, or with `reverse` before which they end; `reverse`: the
   *   newest first; `wait` in ms: to wait for an event, if there is none; `timeout` in ms, in addition to `wait`;
   *   null: no limit
   * @returns {Promise<History>}  rejected with TOPIC_NOT_FOUND if there is no such topic, or it has no history; with
   *   GONE if events after the position are forgotten
   */
  async history(topic, options = {}) {
    checkNames("history", options, ["limit", "sinceEpoch", "sinceOffset", "reverse", "wait", "timeout"]);
    const { limit, sinceEpoch, sinceOffset, reverse, wait = 0, timeout = CALL_WITHIN } = options;
    const query = queryOf({ limit, since_epoch: sinceEpoch, since_offset: sinceOffset, reverse, wait: wait ? wait / 1000 : undefined });
    const path = `topics/${encodeURIComponent(topic)}/history?${query}`;
    const time = timeout === null ? null : timeout + wait;
    const { epoch, offset, events } = await this.#call(time, "", (signal) => this.#ask(path, { signal })).catch((fault) => {
      throw fault instanceof RefusedError ? missingTopic(fault) : fault;
    });
    const item = (/** @type {any} */ { message: { id, payload }, ts, offset }) =>
      /** @type {Event} */ ({ kind: "event", topic, id, payload, ts, offset });
    return { topic, events: events.map(item), position: { epoch, offset } };
  }

  /**
   * List topics with their numbers of subscribers, in the order of their names.
   * @param {{prefix?: string, after?: string, limit?: number, timeout?: number | null}} options  topics whose names
   *   begin with `prefix` and come after `after`, at most `limit` (1,000); `timeout` in ms; null: no limit
   * @returns {Promise<TopicPage>}
   */
  async topics(options = {}) {
    checkNames("topics", options, ["prefix", "after", "limit", "timeout"]);
    const { prefix, after, limit, timeout = CALL_WITHIN } = options;
    const query = queryOf({ prefix, after, limit });
    return this.#call(timeout, "", (signal) => this.#ask(`topics?${query}`, { signal }));
  }

  /** Connect now, without waiting for the pause to end. */
  retry() {
    if (!this.#socket && !this.#error) this.#connect();
  }

  /** Close the client; unanswered publishes are rejected. */
  close() {
    this.#end(new RefusedError("CLOSED", "the client was closed"));
  }

  // HTTP calls.

  /**
   * Carry out a call until it ends, the client ends, or the time is over.
   * @param {number | null} timeout
   * @param {string} note  about the outcome, for the error of the timeout
   * @param {(signal: AbortSignal) => Promise<any>} act
   */
  async #call(timeout, note, act) {
    if (this.#error) throw this.#error;
    const control = new AbortController();
    this.#calls.add(control);
    /** @type {Promise<never>} */
    const aborted = new Promise((_, reject) => control.signal.addEventListener("abort", () => reject(this.#error)));
    try {
      const late = (/** @type {string} */ time) => `no answer of ${this.#name} within ${time}${note}`;
      return await within(timeout, Promise.race([act(control.signal), aborted]), late);
    } finally {
      this.#calls.delete(control);
      control.abort();
    }
  }

  /**
   * Make one request, and return the JSON of its answer.
   * @param {string} path
   * @param {{method?: string, body?: string, signal: AbortSignal}} init
   */
  async #ask(path, init) {
    const token = await this.#token.fetch();
    let response;
    try {
      response = await this.#http.send(path, token, init);
    } catch (fault) { // a TypeError of the network, or an AbortError
      const why = reasonIn(fault) || "it cannot be reached, or does not allow this page's origin"; // browsers hide which
      throw new RefusedError("UNAVAILABLE", `no answer of ${this.#name}: ${why}`);
    }
    const answer = await jsonOf(response);
    if (!response.ok || !answer) throw refusalFor(response, answer);
    return answer;
  }

  // The connection. Events of an older socket are ignored.

  #connect() {
    clearTimeout(this.#retry);
    if (this.#token.isRenewable) {
      // A placeholder until there is a token: retry() does nothing.
      this.#socket = { send() {}, close() {}, onopen: null, onmessage: null, onclose: null, onerror: null };
      const failed = (/** @type {string} */ why) => {
        this.#letGo();
        this.#wait(why);
      };
      const dial = (/** @type {string} */ token) => {
        try {
          this.#dial(token);
        } catch (fault) { // no caller gets it, since this runs later
          this.#end(new RefusedError("REFUSED", `no WebSocket could be made (${nameOf(fault)})`));
        }
      };
      this.#token.ask(dial, failed);
    } else {
      this.#dial(this.#token.fixed);
    }
    this.#tell("connecting");
  }

  /**
   * @param {string | null} token
   * @param {Transport} via
   */
  #dial(token, via = this.#transports[0]) {
    this.#token.current = token;
    this.#fault = "";
    const parse = this.#options.parse ?? JSON.parse;
    const socket = via === "sse" ? new EventSocket(this.#http, token, parse) : this.#webSocket(token);
    this.#socket = socket;
    this.#via = via;
    this.#expect(via === "websocket" && this.#canFallBack && this.#blocked >= BLOCKED ? SWALLOWED : ANSWER_WITHIN);
    // Browsers say nothing here. The package ws throws errors that have no listener.
    socket.onerror = (/** @type {any} */ { message, error }) => {
      if (socket !== this.#socket) return;
      this.#fault = message || error?.code || "";
      setTimeout(() => socket === this.#socket && this.#lost(1006, "")); // Node 22 calls no onclose
    };
    socket.onopen = () => socket === this.#socket && this.#welcome();
    socket.onmessage =
      via === "sse"
        ? (/** @type {any} */ { message }) => socket === this.#socket && this.#hear(() => message)
        : (/** @type {any} */ { data }) => socket === this.#socket && this.#hear(() => parse(data));
    socket.onclose = (/** @type {any} */ { code, reason }) => socket === this.#socket && this.#lost(code, reason);
  }

  /**
   * @param {string | null} token
   * @returns {Socket}
   */
  #webSocket(token) {
    const { WebSocket: given, headers, tls } = this.#options;
    const WebSocket = given ?? globalThis.WebSocket;
    const protocols = token === null ? [] : ["bearer", token]; // browsers cannot set headers
    if (headers || tls) {
      // @ts-ignore: Node's own WebSocket takes headers with the protocols
      return given ? new given(this.#url, protocols, { headers, ...tls }) : new WebSocket(this.#url, { protocols, headers });
    }
    return token === null ? new WebSocket(this.#url) : new WebSocket(this.#url, protocols);
  }

  get #canFallBack() {
    return this.#transports.includes("sse");
  }

  #welcome() {
    if (this.#via === "sse" && this.#hadOne) {
      // The whole network may have been away. Now that the server answers, try a WebSocket once more.
      this.#hadOne = false;
      this.#blocked = BLOCKED - 1; // with all the time that it needs
      this.#letGo();
      this.#dial(this.#token.current);
      return;
    }
    this.#open = true;
    this.#opened = performance.now();
    if (this.#via === "websocket") {
      this.#blocked = 0;
      this.#hadOne = true;
    } else if (this.#transports.includes("websocket")) {
      const hint = this.#url.pathname.endsWith("/ws") ? "" : "is the path of the URL right? The server's is /ws; ";
      console.warn(`${this.#name}: no WebSocket (${this.#why}); ${hint}using Server-Sent Events and HTTP`);
      this.#latency = null;
    }
    for (const topic of this.#topics.values()) this.#subscribe(topic);
    for (const requestId of [...this.#publishes.keys()]) this.#sendPublish(requestId);
    this.#pinger = setInterval(() => this.#ping(), PING_EVERY);
    this.#ping();
    this.#tell("open");
  }

  #ping() {
    this.#pinged = performance.now();
    this.#expect(ANSWER_WITHIN);
    this.#send({ type: "ping" });
  }

  /**
   * Start the time limit for the next message.
   * @param {number} ms
   */
  #expect(ms) {
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => {
      if (!this.#open && this.#via === "websocket") this.#blocked = BLOCKED; // it is swallowed: once is enough
      this.#lost(1006, "");
    }, ms);
  }

  #letGo() {
    const socket = this.#socket;
    this.#socket = this.#via = null;
    socket?.close();
    clearTimeout(this.#alarm);
    this.#alarm = undefined;
    clearTimeout(this.#retry);
    clearInterval(this.#pinger);
    clearTimeout(this.#replacing);
    this.#token.stop();
    this.#invalid = 0;
    this.#open = false;
    this.#asked.clear();
    clearTimeout(this.#pacer);
    this.#pacer = undefined;
    this.#paced = [];
    for (const topic of this.#topics.values()) topic.live = false;
  }

  /**
   * @param {number} code
   * @param {string} word
   */
  #lost(code, word) {
    const wasOpen = this.#open;
    const via = this.#via;
    if (wasOpen && performance.now() - this.#opened >= STEADY) this.#attempt = this.#token.refusals = 0;
    const spoken = this.#fault || `${CLOSES[code] ?? "closed"} (${code}${word && ` ${word}`})`;
    // The reason of a WebSocket says more than that of the streams, unless these got an answer.
    const isSecond = !wasOpen && via === "sse" && this.#transports.length > 1 && code === 1006 && !this.#fault;
    const why = isSecond ? this.#why : spoken;
    this.#letGo();
    this.#why = why;
    if (!wasOpen && via === "websocket" && code === 1006 && this.#canFallBack && ++this.#blocked >= BLOCKED) {
      this.#dial(this.#token.current, "sse");
    } else if (FOR_GOOD.has(code) || (code === TOO_BIG && !this.#giveUpLargest())) {
      this.#end(new RefusedError("REFUSED", why));
    } else if (word === "auth_timeout" && !this.#token.isGiven) {
      this.#end(new RefusedError("REFUSED", `a token is needed: ${why}`));
    } else if (this.#isRefusedForGood(code, word)) {
      this.#end(new RefusedError("REFUSED", `the token was refused: ${why}`));
    } else {
      this.#wait(why);
    }
  }

  /**
   * Count a refusal of the token; return true if the same token was refused too often.
   * @param {number} code
   * @param {string} word
   */
  #isRefusedForGood(code, word) {
    if (code !== TOKEN_NEEDED || word !== "unauthorized") return false;
    this.#token.refusals += 1;
    return !this.#token.isRenewable && this.#token.refusals >= REFUSALS;
  }

  /**
   * Connect again after a pause.
   * @param {string} why
   */
  #wait(why) {
    this.#why = why;
    const ms = this.#span ? between(this.#span) : pause(this.#attempt);
    this.#span = null;
    this.#attempt += 1;
    this.#retry = setTimeout(() => this.#connect(), ms);
    console.warn(`${this.#name}: ${why}; connecting again in ${seconds(ms)} (attempt ${this.#attempt})`);
    this.#tell("waiting", { why, attempt: this.#attempt, ms });
  }

  /** @param {RefusedError} error */
  #end(error) {
    if (this.#error) return;
    this.#error = error;
    this.#letGo();
    globalThis.removeEventListener?.("online", this.#online);
    const byUser = error.code === "CLOSED";
    if (!byUser) console.error(`${this.#name}: not connecting again: ${error.message}`);
    for (const requestId of [...this.#publishes.keys()]) this.#settle(requestId, error);
    for (const topic of [...this.#topics.values()]) this.#refuse(topic, byUser ? null : error);
    for (const control of [...this.#calls]) control.abort();
    this.#settleEnd();
    this.#tell("closed", { error: byUser ? null : error });
    this.#listeners.clear();
  }

  /**
   * @param {State} state
   * @param {Detail} detail
   */
  #tell(state, detail = {}) {
    this.#state = state;
    for (const { listener } of [...this.#listeners]) attempt(listener, state, detail);
  }

  // Messages to the server.

  /** @param {object} message */
  #send(message) {
    if (this.#open) this.#write(JSON.stringify(message));
  }

  /** @param {Topic} topic */
  #subscribe(topic) {
    if (!this.#open) return;
    const request_id = `s${++this.#requests}`;
    this.#asked.set(request_id, topic);
    this.#send({ ...topic.request(), request_id });
  }

  /** @param {string} requestId */
  #sendPublish(requestId) {
    const publish = this.#publishes.get(requestId);
    if (!publish) return;
    const now = Date.now(); // unlike a monotonic clock, it goes on while the machine sleeps
    if (publish.sent !== null && now - publish.sent > REPEATABLE) {
      const text = `it was sent over ${REPEATABLE / 1000} s ago, and may have been carried out`;
      this.#settle(requestId, new RefusedError("UNKNOWN", text));
    } else if (this.#open) {
      publish.sent ??= now;
      this.#write(publish.text);
    }
  }

  /** @param {string} text */
  #write(text) {
    // While it closes, nothing would be sent, and Chromium would log an error.
    if (this.#socket?.readyState !== CLOSING) this.#socket?.send(text);
  }

  /**
   * @param {Topic} topic
   * @param {Subscription} first
   */
  #add(topic, first) {
    encode(topic.request()); // an invalid command must fail here, and not on each connection
    topic.join(first);
    this.#topics.set(topic.name, topic);
    this.#subscribe(topic);
  }

  /** @param {Subscription} subscription */
  #leave(subscription) {
    if (subscription._over) return;
    subscription._end();
    const topic = this.#topics.get(subscription.topic);
    if (!topic?.subscriptions.includes(subscription)) return;
    topic.leave(subscription);
    if (topic.subscriptions.length) return;
    this.#send({ type: "unsubscribe", topic: topic.name });
    this.#topics.delete(topic.name);
  }

  /**
   * @param {Topic} topic
   * @param {RefusedError | null} error
   */
  #refuse(topic, error) {
    this.#topics.delete(topic.name); // first: a callback may subscribe to it again
    topic.end(error);
  }

  // Messages of the server.

  /** @param {() => Message} read */
  #hear(read) {
    if (this.#alarm !== undefined) {
      clearTimeout(this.#alarm);
      this.#alarm = undefined;
    }
    try {
      const message = read();
      this.#take(message);
      if (this.#options.onMessage) attempt(this.#options.onMessage, message);
    } catch (fault) {
      console.error(fault);
      this.#end(new RefusedError("REFUSED", `this is no broadcast server: ${fault}`));
    }
  }

  /** @param {Message} message */
  #take(message) {
    const { type, topic: name, request_id, reason } = message;
    const topic = name === undefined ? undefined : this.#topics.get(name);
    if (type === "event") {
      // An event before the ack belongs to an earlier subscribe of the same topic.
      if (topic?.live) topic.event(message);
    } else if (this.#publishes.has(request_id)) {
      this.#settle(request_id, type === "ack" ? message : refusal(message));
    } else if (this.#asked.has(request_id)) {
      const asked = /** @type {Topic} */ (this.#asked.get(request_id));
      this.#asked.delete(request_id);
      this.#answered(asked, message);
    } else if (this.#auth && request_id === this.#auth.request_id) {
      this.#authAnswered(this.#auth, message);
    } else if (type === "ack" && !request_id) { // of an unsubscribe, or of a stream that was opened again
      if (this.#via === "sse") topic?.acked(/** @type {any} */ (message));
    } else if (type === "info" && name !== undefined) {
      if (topic?.live) this.#handOn(topic, message);
    } else if (type === "pong") {
      if (this.#via === "websocket") this.#latency = performance.now() - this.#pinged;
    } else if (reason === "TOKEN_EXPIRES" && this.#token.isRenewable) {
      clearTimeout(this.#replacing);
      const ms = this.#replaced + REPLACE_EVERY - performance.now();
      this.#replacing = setTimeout(() => this.#replaceToken(), Math.max(0, ms));
    } else if ((type === "error" || type === "info") && !request_id) {
      console.warn(`${this.#name}: the server says:`, message.error?.message ?? message.message?.payload);
      if (reason === "SHUTDOWN" && message.reconnect) this.#span = message.reconnect;
    }
  }

  /**
   * @param {Topic} topic
   * @param {Message} message
   */
  #handOn(topic, message) {
    if (reasonOf(message) === "TOPIC_DELETED") {
      this.#topics.delete(topic.name); // first: a callback may subscribe to it again
      topic.delete();
    } else if (reasonOf(message) === "FORBIDDEN") {
      this.#refuse(topic, new RefusedError("FORBIDDEN", "the token no longer gives the right"));
    } else {
      topic.info(message);
    }
  }

  /** Get another token and send it on the open connection, until the server accepts one. */
  #replaceToken(attempt = 0) {
    this.#replaced = performance.now();
    const again = (/** @type {string} */ why) => {
      const ms = pause(attempt);
      console.warn(`${this.#name}: the token was not replaced: ${why}; asking again in ${seconds(ms)}`);
      this.#replacing = setTimeout(() => this.#replaceToken(attempt + 1), ms);
    };
    this.#token.ask((token) => {
      if (token === this.#token.current) {
        again("the token function returned the same token");
      } else {
        this.#auth = { request_id: `a${++this.#requests}`, token, again };
        this.#send({ type: "auth", token, request_id: this.#auth.request_id });
      }
    }, again);
  }

  /**
   * Handle the answer to an auth. The server closes the connection at the third invalid token in a row, so the
   * second is the last: the connection then lasts until the old token ends.
   * @param {{token: string, again: (why: string) => void}} auth
   * @param {Message} message
   */
  #authAnswered({ token, again }, message) {
    this.#auth = null;
    if (message.type === "ack") {
      this.#token.current = token;
      this.#invalid = 0;
      return;
    }
    const error = refusal(message);
    if (error.code === "UNAUTHORIZED") this.#invalid += 1;
    if (error.code === "FORBIDDEN" || this.#invalid >= REFUSALS)
      console.warn(`${this.#name}: the token was not replaced: ${error.message}`);
    else again(error.message);
  }

  /**
   * Handle the answer to a subscribe.
   * @param {Topic} topic
   * @param {any} message
   */
  #answered(topic, message) {
    const isWanted = () => this.#topics.get(topic.name) === topic;
    if (!isWanted()) return;
    if (message.type === "ack") {
      topic.acked(message);
    } else if (message.error.code === "UNAVAILABLE") { // temporary
      const socket = this.#socket;
      const again = () => socket === this.#socket && isWanted() && this.#subscribe(topic);
      setTimeout(again, pause(topic.refusals++));
    } else if (message.error.code === "RATE_LIMITED") {
      this.#paced.push(topic);
      this.#pace = message.error.retry_after_ms ?? DEFAULT_PACE;
      this.#pacer ??= setTimeout(() => this.#askNext(), this.#pace);
    } else {
      this.#refuse(topic, refusal(message));
    }
  }

  /** Repeats one subscribe that came too fast; the others follow at the server's pace. */
  #askNext() {
    this.#pacer = undefined;
    const topic = this.#paced.find((it) => this.#topics.get(it.name) === it);
    this.#paced = topic ? this.#paced.slice(this.#paced.indexOf(topic) + 1) : [];
    if (topic) this.#subscribe(topic);
    if (this.#paced.length) this.#pacer = setTimeout(() => this.#askNext(), this.#pace);
  }

  /**
   * @param {string} requestId
   * @param {Message | RefusedError} answer
   */
  #settle(requestId, answer) {
    const publish = this.#publishes.get(requestId);
    this.#publishes.delete(requestId);
    if (answer instanceof RefusedError) publish?.reject(answer);
    else publish?.resolve(answer);
  }

  /** Give up the largest pending message: if any was too big, this one was. Return whether there was one. */
  #giveUpLargest() {
    const size = (/** @type {string} */ text) => new TextEncoder().encode(text).length;
    const asked = [...this.#topics.values()].filter((it) => !it.wasAcked);
    /** @type {[number, (error: RefusedError) => void][]} */
    const pending = [];
    for (const [id, { text }] of this.#publishes) pending.push([size(text), (error) => this.#settle(id, error)]);
    for (const it of asked) pending.push([size(encode(it.request())), (error) => this.#refuse(it, error)]);
    const [largest] = pending.sort(([a], [b]) => b - a);
    if (!largest) return false;
    const [bytes, refuse] = largest;
    refuse(new RefusedError("TOO_BIG", `a message of ${bytes} bytes is more than the server takes`));
    return true;
  }
}

/**
 * Throw a TypeError if something is no object, or has a property of another name, such as a misspelled option.
 * @param {string} what  has the properties, for the error
 * @param {unknown} given
 * @param {string[]} names
 */
function checkNames(what, given, names) {
  if (typeof given !== "object" || !given) throw new TypeError(`${what}: the options must be an object`);
  const wrong = Object.keys(given).find((it) => !names.includes(it));
  if (wrong) throw new TypeError(`${what} has no option ${wrong}: it has ${names.join(", ")}`);
}

/**
 * Return the address of a server's WebSocket, for one of HTTP too.
 * @param {string | URL} url
 */
function parseUrl(url) {
  const text = String(url).trim().replace(/^http/i, "ws");
  try {
    if (/^wss?:\/\/[^/]/i.test(text)) return new URL(text);
  } catch {} // such as a port that is no number
  const shown = String(url).replace(/\?.*/s, "").replace(/.*@/s, ""); // what may be secret is not
  throw new TypeError(`url must be like ws://localhost:8080/ws, and not '${shown}'`);
}

/**
 * Check the options of a client, and return its transports.
 * @param {Options} options
 */
function checkOptions({ transports = ["websocket", "sse"], headers, tls, WebSocket, fetch }) {
  const known = Array.isArray(transports) && transports.every((it) => it === "websocket" || it === "sse");
  if (!known || !transports.length) throw new TypeError('transports must be a list of "websocket" and "sse"');
  const needed = transports.includes("websocket");
  if (needed && !(WebSocket ?? globalThis.WebSocket))
    throw new Error("there is no WebSocket here: pass one as the option WebSocket");
  if (!(fetch ?? globalThis.fetch)) throw new Error("there is no fetch here: pass one as the option fetch");
  // @ts-ignore: Node's global
  if (headers && !globalThis.process?.versions?.node)
    throw new TypeError("headers: a page cannot set the headers of a WebSocket; use the option token");
  if (tls && !WebSocket) throw new TypeError("tls: it needs the package ws as the option WebSocket");
  return transports;
}

/**
 * Return true if a value can be sent as a token; not "bearer", since no subprotocol may occur twice.
 * @param {unknown} value
 * @returns {value is string}
 */
function isToken(value) {
  return typeof value === "string" && TOKEN.test(value) && value !== "bearer";
}

/**
 * Return a time in ms as text.
 * @param {number} ms
 */
function seconds(ms) {
  return `${Number((ms / 1000).toPrecision(2))} s`;
}

/**
 * Settle as `promise` does, or after `ms` reject with TIMEOUT, and the text that `late` returns; null: no limit.
 * @template T
 * @param {number | null} ms
 * @param {Promise<T>} promise
 * @param {(time: string) => string} late
 * @returns {Promise<T>}
 */
function within(ms, promise, late) {
  if (ms === null) return promise;
  /** @type {any} */
  let timer;
  /** @type {Promise<never>} */
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new RefusedError("TIMEOUT", late(seconds(ms)))), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/**
 * Return a random pause in ms: from 0 to a maximum that doubles with each attempt (full jitter).
 * @param {number} attempt
 */
function pause(attempt) {
  return Math.random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}

/**
 * Return a random pause in ms within the span that the server has set.
 * @param {{min_ms: number, max_ms: number}} span
 */
function between({ min_ms, max_ms }) {
  return min_ms + Math.random() * (max_ms - min_ms);
}

/**
 * Return a message as JSON. Throw if the server cannot read it: its error would have no request_id.
 * @param {object} message
 */
function encode(message) {
  const text = JSON.stringify(message);
  const plain = text.replace(/\\[^u]/g, ""); // without escaped backslashes and quotes
  if (plain.includes("\\ud")) throw new TypeError("half of a surrogate pair is no text"); // a complete pair is not escaped
  let depth = 0;
  for (const bracket of plain.replace(/"[^"]*"/g, "").match(/[[\]{}]/g) ?? []) {
    depth += "[{".includes(bracket) ? 1 : -1;
    if (depth > NESTING) throw new TypeError("it is nested too deeply");
  }
  return text;
}

/**
 * Call a callback, and log its exception or rejection: they must not affect the client.
 * @param {(...args: any[]) => any} callback
 * @param {any[]} args
 */
function attempt(callback, ...args) {
  try {
    callback(...args)?.then?.(null, (/** @type {unknown} */ fault) => console.error(fault));
  } catch (fault) {
    console.error(fault);
  }
}

/**
 * Return random bytes in hexadecimal; crypto.randomUUID needs HTTPS.
 * @param {number} bytes
 */
function random(bytes) {
  const hex = (/** @type {number} */ byte) => byte.toString(16).padStart(2, "0");
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), hex).join("");
}

/**
 * @param {Position | null} one
 * @param {Position | null} other
 */
function isSamePlace(one, other) {
  return one?.epoch === other?.epoch && one?.offset === other?.offset;
}

/**
 * Return true if an event at `other` is not after `place`.
 * @param {Position} place
 * @param {Position | null} other
 */
function covers(place, other) {
  return other !== null && place.epoch === other.epoch && other.offset <= place.offset;
}

/**
 * Return the reason of an info, also of a server that sends no `reason` at the top level.
 * @param {Message} info
 */
function reasonOf({ reason, message }) {
  return reason ?? message.payload?.reason ?? (message.payload === DELETED ? "TOPIC_DELETED" : undefined);
}

/** @param {Message} message */
function refusal({ error }) {
  return new RefusedError(error.code, error.message, error.retry_after_ms);
}

/**
 * Return the JSON of a response; null if it has none.
 * @param {any} response
 * @returns {Promise<any>}
 */
async function jsonOf(response) {
  try {
    return await response.json();
  } catch { // a SyntaxError, or the body was cut
    return null;
  }
}

/**
 * Return a response with its JSON, or null if it has none.
 * @param {any} response
 */
async function withJson(response) {
  return [response, await jsonOf(response)];
}

/** @param {any} response */
async function refusalOf(response) {
  return refusalFor(response, await jsonOf(response));
}

/**
 * Return the error for a response that is none of success.
 * @param {any} response
 * @param {any} body  its JSON, or null
 */
function refusalFor({ status, headers }, body) {
  const text = body?.error ?? "this is not the answer of a broadcast server";
  const after = Number(headers.get("Retry-After"));
  return new RefusedError(
    STATUSES[status] ?? (status >= 500 ? "UNAVAILABLE" : "REFUSED"),
    body?.error ? text : `HTTP ${status}: ${text}`,
    after ? after * 1000 : undefined,
  );
}

/**
 * Return a refusal for NOT_FOUND as it is where the path is known to exist.
 * @param {RefusedError} error
 */
function missingTopic(error) {
  return error.code === "NOT_FOUND" ? new RefusedError("TOPIC_NOT_FOUND", error.text) : error;
}

/**
 * Return a query without the parameters that are not given.
 * @param {{[name: string]: string | number | boolean | undefined}} parameters
 */
function queryOf(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

/** @param {any} fault */
function nameOf(fault) {
  return fault?.name ?? typeof fault;
}

/**
 * Return why a fetch has failed, or nothing: browsers do not say.
 * @param {any} fault
 * @returns {string}
 */
function reasonIn({ cause }) {
  return cause?.message || cause?.code || "";
}

/** Return the address of the server that served this module; throw in a bundle or a copy. */
function origin() {
  const here = String(import.meta.url); // not inside new URL(), where bundlers look for assets
  if (/^https?:[^?#]*\/client\.js([?#]|$)/.test(here)) return new URL("ws", here);
  throw new Error("pass the address of the server, such as ws://host:8080/ws: client.js did not come from it");
}

/**
 * Connect to the server at `url`, until the client is closed.
 * @param {string | URL} [url]  ws://host:8080/ws; by default the server that served this module
 * @param {Options} [options]
 * @returns {Client}
 */
export function connect(url = origin(), options = {}) {
  return new Client(url, options);
}
