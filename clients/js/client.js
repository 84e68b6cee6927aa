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
 * that it is published once.
 *
 * @typedef {{epoch: string, offset: number}} Position  a place in a topic's order; all events up to it are known
 * @typedef {{kind: "event", topic: string, id: *, payload: *, ts: string, offset?: number}} Event
 * @typedef {{kind: "lost", topic: string, why: string, count?: number}} Lost  load your state again
 * @typedef {{kind: "deleted", topic: string}} Deleted  the topic was deleted: the last item
 * @typedef {Event | Lost | Deleted} Item
 * @typedef {{type: string, topic?: string, epoch?: string, offset?: number, recovered?: boolean,
 *   duplicate?: boolean}} Message  a message of the server, such as an ack
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 * @typedef {{why?: string, attempt?: number, ms?: number, error?: ?RefusedError}} Detail
 *   of "waiting": the reason, the number of the next attempt, and the ms until it; of "closed": the error, or null
 *   after `close`
 * @typedef {(state: State, detail: Detail) => void} StateListener
 * @typedef {object} Options
 * @property {string} [clientId]
 * @property {string | (() => string | Promise<string>)} [token]  a token, or a function that returns one; it is
 *   called for each connection, and before the token of an open connection expires
 * @property {typeof WebSocket} [WebSocket]  replaces the global one; such as that of the package ws
 * @property {StateListener} [onState]  the first listener, as of `client.onState`: it also hears of the first attempt
 * @property {(message: Message) => void} [onMessage]  called with every message of the server
 * @property {(text: string) => *} [parse]  replaces JSON.parse
 * @typedef {object} SubscribeOptions
 * @property {?number} [lastN]  number of newest events to begin with
 * @property {?Position} [recover]  or the position after which to begin
 * @property {(ack: Message) => void} [onAck]  called with the first ack, and with one on each new connection
 * @property {(error: RefusedError) => void} [onRefused]
 */

const BUFFER = 1_000; // items buffered for an iterator; beyond that the oldest are dropped
const PENDING = 1_000; // maximum of unanswered publishes
const DEFAULT_PACE = 1_000; // ms between subscribes if the server gives no time
const REPEATABLE = 240_000; // ms in which a publish is repeated: the server keeps keys for 300 s
const READY_WITHIN = 10_000; // ms: the default of Client.ready
const ANSWER_WITHIN = 10_000; // ms for an answer to a connect or a ping; then the connection is dead
const PING_EVERY = 25_000; // ms; messages, since browsers have no API for WebSocket pings
const NESTING = 250 + 1; // levels of nesting that the server accepts: a payload's, and the message
const FIRST = 500; // ms: maximum of the first pause before a reconnect; then it doubles …
const LONGEST = 20_000; // … up to this many ms
const STEADY = 10_000; // ms that a connection must last to reset the pause
const REFUSALS = 2; // refusals of a token in a row, after which the client stops repeating it
const REPLACE_EVERY = 5_000; // ms, at least, between two replacements of the token
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/; // what a subprotocol may hold (RFC 9110, 5.6.2)

const TOKEN_NEEDED = 3000; // the Close code for: get a token, then reconnect
const TOO_BIG = 1009; // the Close code for a message over MAX_MESSAGE_BYTES
// Close codes after which the client must not reconnect; after all others it does.
const FOR_GOOD = new Set([1002, 1007, 1008, 3003]);
const DELETED = "Topic has been deleted"; // from servers that give no reason
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

/**
 * A request was refused, or the client was refused for good. `code` is the server's, or CLOSED (the
 * client was closed), REFUSED (for good), BUSY (too many publishes are pending), TOO_BIG, UNKNOWN (the request
 * may have been carried out), or TIMEOUT (it took longer than allowed).
 */
export class RefusedError extends Error {
  /** @param {string} code @param {string} text @param {number} [retryAfterMs] */
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
  /**
   * The position after the last item that you got. Save it to recover on another page. Null if the topic
   * has no history, is not subscribed yet, or none of lastN has arrived.
   * @type {?Position}
   */
  position;
  over = false;
  begun = false; // whether the topic's items are for this subscription
  #after = null; // a position: events up to it are not for this subscription
  #items = []; // buffered for the iterator, each with the position after it
  #overrun = 0; // items dropped because the buffer was full
  #waiters = []; // callbacks for the next item
  #error = null; // the refusal that ended it
  #acked; // a promise
  #settle; // its end
  #deliver;
  #options;
  #leave;

  /**
   * @param {string} topic
   * @param {?(item: Item) => void} deliver
   * @param {SubscribeOptions} options
   * @param {Function} leave
   */
  constructor(topic, deliver, options, leave) {
    this.topic = topic;
    this.lastN = options.lastN ?? 0;
    this.recover = this.position = options.recover ?? null;
    this.#deliver = deliver;
    this.#options = options;
    this.#leave = leave;
    this.#acked = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve());
    });
    this.#acked.catch(() => {}); // a refusal is reported elsewhere, too
  }

  /**
   * Wait for the server's ack.
   * @param {{timeout?: ?number}} [options]  `timeout` in ms; null: no limit
   * @returns {Promise<void>}  rejected by a refusal; with CLOSED if it was closed before the ack; with TIMEOUT
   */
  ready({ timeout = null } = {}) {
    const late = () => new RefusedError("TIMEOUT", `${this.topic}: no ack of the server within ${seconds(timeout)}`);
    return within(timeout, this.#acked, late);
  }

  /** @returns {AsyncIterableIterator<Item>} */
  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<Item>>}  rejected if the server refuses the subscription, or the client */
  async next() {
    while (!this.#overrun && !this.#items.length) {
      if (this.#error) throw this.#error;
      if (this.over) return { done: true, value: undefined };
      await new Promise((resolve) => this.#waiters.push(resolve));
    }
    if (this.#overrun) {
      const count = this.#overrun;
      this.#overrun = 0;
      const why = `${count} items, since more than ${BUFFER} waited here`;
      return { done: false, value: { kind: "lost", topic: this.topic, why, count } };
    }
    const [value, position] = this.#items.shift();
    this.position = position;
    return { done: false, value };
  }

  /** Called by `for await` at a break. @returns {Promise<IteratorResult<Item>>} */
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

  // Called by the topic.

  /** Return whether both subscriptions begin in the same place. */
  wantsTheSame({ lastN, recover }) {
    return this.lastN === lastN && isSamePlace(this.recover, recover);
  }

  /** Record the server's ack. @param {?Position} position  the begin, if it is not the requested one */
  acked(position = null) {
    this.position = position ?? this.position;
    this.#settle();
  }

  /** Pass on an ack: the topic's first, or one on a new connection. */
  heardAck(ack) {
    if (this.#options.onAck) attempt(this.#options.onAck, ack);
  }

  /** Begin at the topic's current position; report earlier events that were wanted as lost. */
  begin(position) {
    if (this.over) return;
    const wanted = this.recover;
    const ahead = wanted?.epoch === position?.epoch && wanted?.offset > position?.offset; // the topic may not have reached it yet
    const here = ahead ? wanted : position;
    const newest = this.lastN && here?.offset;
    this.begun = true;
    this.#after = here;
    if (newest || (wanted && !isSamePlace(wanted, here))) {
      const why = "what was published before, since the topic was subscribed already";
      console.warn(`${this.topic}: lost: ${why}`);
      this.put({ kind: "lost", topic: this.topic, why }, here);
      this.acked();
    } else {
      this.acked(here);
    }
  }

  /** Deliver or buffer an item. @param {Item} item @param {?Position} position  the subscriber's position after it */
  put(item, position) {
    if (this.over || !this.begun) return; // a callback of another may just have closed it
    if (item.kind === "event" && this.#has(position)) return;
    if (this.#deliver) {
      this.position = position;
      attempt(this.#deliver, item);
      return;
    }
    if (this.#items.length >= BUFFER) {
      if (!this.#overrun) console.warn(`${this.topic}: lost: items, since more than ${BUFFER} wait`);
      this.#items.shift();
      this.#overrun += 1;
    }
    this.#items.push([item, position]);
    this.#wake();
  }

  /** End the subscription; `error` is passed to the subscriber. @param {?RefusedError} error */
  end(error = null) {
    if (this.over) return;
    this.over = true;
    this.#error = error;
    this.#wake();
    this.#settle(error ?? new RefusedError("CLOSED", "it was closed before the server acked it"));
    if (error && this.#options.onRefused) attempt(this.#options.onRefused, error);
    else if (error && this.#deliver) console.error(`${this.topic}: ${error.message}`);
  }

  /** Return whether the event at `position` is before the subscription's begin. */
  #has(position) {
    return this.#after !== null && this.#after.epoch === position?.epoch && position.offset <= this.#after.offset;
  }

  #wake() {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}

/** A topic, subscribed once on the wire for all its subscriptions: it finds new events, repetitions and losses. */
class Topic {
  subscriptions = new Set(); // those that share it
  live = false; // whether the current connection has acked it
  wasAcked = false; // whether any connection has
  refusals = 0; // number of temporary refusals since the last ack
  #first; // the subscription whose lastN or recover is sent to the server
  #position; // the position up to which events have arrived
  #newest; // earlier events to ask for; 0 once one has arrived
  #begun; // whether missed events are a loss

  /** @param {string} name @param {Subscription} first */
  constructor(name, first) {
    this.name = name;
    this.#first = first;
    this.#position = first.recover;
    this.#newest = first.lastN;
    this.#begun = this.#position !== null;
  }

  /** Add a subscription; after the topic's ack, it begins at the current position. */
  join(subscription) {
    this.subscriptions.add(subscription);
    if (!this.wasAcked) subscription.begun = subscription.wantsTheSame(this.#first);
    else queueMicrotask(() => subscription.begin(this.#position)); // later, since it may call the callback
  }

  /** Return the subscribe command, without a request_id. */
  request() {
    const request = { type: "subscribe", topic: this.name };
    if (this.#newest) request.last_n = this.#newest;
    else if (this.#position) request.recover = this.#position;
    return request;
  }

  /** Handle the server's ack of a subscribe, the first or one on a new connection. */
  acked(ack) {
    // If lastN is asked for again because none of its events had arrived, that is no loss within an
    // epoch: the first event shows whether there is a hole.
    const again = this.#newest && this.#position && this.#position.epoch === ack.epoch;
    const known = "epoch" in ack;
    const top = known ? { epoch: ack.epoch, offset: ack.offset } : null;
    let start = null;
    if (!ack.recovered && !again) {
      this.#position = top;
      if (!known || !ack.offset) this.#newest = 0; // there are none
      const why = known ? "which the server has forgotten" : "for want of a history";
      if (this.#begun) this.#lose(`what was published meanwhile, ${why}`);
      else if (!this.#newest) start = top;
    }
    const isFirst = !this.wasAcked;
    this.live = this.wasAcked = this.#begun = true;
    this.refusals = 0;
    for (const subscription of [...this.subscriptions]) {
      if (subscription.over) continue; // a callback of another has just closed it
      if (isFirst && subscription.begun) subscription.acked(start);
      else if (isFirst) subscription.begin(top);
      subscription.heardAck(ack);
    }
  }

  /** Handle an event or an info of the topic that arrived after the ack. */
  take(message) {
    if (message.type === "event") {
      const { message: { id, payload }, ts, offset } = message;
      const event = { kind: "event", topic: this.name, id, payload, ts };
      if (offset === undefined) this.#put(event);
      else if (this.#isNew(offset)) this.#put({ ...event, offset });
    } else if (reasonOf(message) === "GAP") {
      const { epoch, offset, dropped: count } = message.message.payload;
      if (epoch) {
        // Within an epoch the position never goes back, unless the newest events follow.
        const same = epoch === this.#position?.epoch && !this.#newest;
        this.#position = { epoch, offset: same ? Math.max(this.#position.offset, offset) : offset };
        this.#newest = 0;
      }
      this.#lose(`${count ?? "some"} events, on their way here`, count);
    }
  }

  /** Handle the topic's deletion: its item is the last of each subscription. */
  delete() {
    this.#put({ kind: "deleted", topic: this.name });
    this.end();
  }

  /** End all subscriptions; `error` is passed to the subscribers. @param {?RefusedError} error */
  end(error = null) {
    this.live = false;
    for (const subscription of [...this.subscriptions]) subscription.end(error);
  }

  /** Return whether an event is no repetition; report a hole before it as lost. */
  #isNew(offset) {
    if (!this.#position) return true;
    const missing = offset - this.#position.offset - 1;
    if (missing < 0 && !this.#newest) return false;
    if (missing > 0) this.#lose(`${missing} events, which the server did not send`, missing);
    this.#newest = 0;
    this.#position = { epoch: this.#position.epoch, offset };
    return true;
  }

  #lose(why, count) {
    console.warn(`${this.name}: lost: ${why}`);
    this.#put({ kind: "lost", topic: this.name, why, ...(count && { count }) });
  }

  #put(item) {
    const position = this.#position; // a callback may close and add subscriptions
    for (const subscription of [...this.subscriptions]) subscription.put(item, position);
  }
}

/**
 * The source of a client's tokens: a string, or a function that is called for each connection. No log line and no
 * error has a token in it, nor the message of an error that a token function threw.
 */
class Token {
  current = null; // what the current connection has sent last
  refusals = 0; // in a row, of the tokens of handshakes
  #source;
  #asking = null; // the newest call of the function, until it is settled
  #alarm; // the timer that gives it up

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
    return this.#source;
  }

  /** Call the function, then `done` with its token, or `failed` with the reason; neither after stop(). */
  ask(done, failed) {
    this.stop();
    const asking = (this.#asking = {});
    const settle = (act, value) => {
      if (asking !== this.#asking) return;
      this.stop();
      act(value);
    };
    this.#alarm = setTimeout(settle, ANSWER_WITHIN, failed, `the token function took over ${ANSWER_WITHIN / 1000} s`);
    const source = this.#source; // called without this object as its `this`
    new Promise((resolve) => resolve(source())).then(
      (token) => (isToken(token) ? settle(done, token) : settle(failed, "the token function returned no token")),
      (fault) => settle(failed, `the token function failed (${fault?.name ?? typeof fault})`),
    );
  }

  stop() {
    this.#asking = null;
    clearTimeout(this.#alarm);
  }
}

/** A client that reconnects; create it with `connect`. */
export class Client {
  /** @type {?number}  round trip of the newest ping in ms */
  latency = null;
  #url;
  #name; // the address without secrets, for errors and the log
  #options;
  #state = "connecting";
  #listeners = new Set(); // of the state
  #why = ""; // why the newest connection ended, or could not be opened
  #fault = ""; // what the newest socket said about its failure
  #WebSocket;
  #socket = null; // the newest; null between connections
  #open = false;
  #opened = 0; // the time when it opened
  #error = null; // the reason why the client has ended
  #attempt = 0; // reconnects since the last steady connection
  #requests = 0;
  #pinged = 0; // the time of the newest ping
  #pinger; // timers: of the next ping, of a missing answer, of the next attempt
  #alarm;
  #retry;
  #paced = []; // topics whose subscribes came too fast, to be repeated
  #pace = 0; // ms between two of them
  #pacer = null; // the timer of the next of them
  #span = null; // of the next pause, if the server has set it
  #token;
  #auth = null; // the auth that is not answered: its request_id and token
  #invalid = 0; // tokens in a row that the server refused on this connection
  #replacing; // timer: the next attempt to replace the token
  #replaced = -REPLACE_EVERY; // when the token function was last asked for a replacement
  #topics = new Map(); // by name
  #asked = new Map(); // topics whose subscribe was sent on this connection, by request_id
  #publishes = new Map(); // unanswered ones by request_id, in sending order
  #online = () => (this.#open ? this.#ping() : this.retry());

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    this.#url = new URL(url);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#name = `${this.#url.protocol}//${this.#url.host}${this.#url.pathname}`;
    this.#url.searchParams.set("client_id", options.clientId || `js-${random(4)}`);
    this.#options = options;
    if (options.onState) this.onState(options.onState);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new Error("there is no WebSocket here: pass one as the option WebSocket");
    this.#token = new Token(options.token);
    this.#connect();
    globalThis.addEventListener?.("online", this.#online);
  }

  /** The state of the connection. @type {State} */
  get state() {
    return this.#state;
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
   * @param {{timeout?: ?number}} [options]  `timeout` in ms; null: no limit
   * @returns {Promise<void>}  rejected with TIMEOUT, which says why the last attempt failed, or with the error
   *   that ended the client
   */
  ready({ timeout = READY_WITHIN } = {}) {
    let remove = () => {};
    const opened = new Promise((resolve, reject) => {
      const look = () => {
        if (this.#error) reject(this.#error);
        else if (this.#open) resolve();
      };
      remove = this.onState(look);
      look();
    });
    const late = () => {
      const why = this.#why || "the server has not answered";
      return new RefusedError("TIMEOUT", `no connection to ${this.#name} within ${seconds(timeout)}: ${why}`);
    };
    return within(timeout, opened, late).finally(remove);
  }

  /**
   * Subscribe to a topic. Several subscriptions may share a topic.
   * @param {string} name
   * @param {?(item: Item) => void} deliver  called with each item; without it, iterate over the subscription
   * @param {SubscribeOptions} options  the server gets `lastN` or `recover` of the topic's first subscription
   *   only; a later one with others begins at the topic's current position, with an item of the kind "lost"
   * @returns {Subscription}
   */
  subscribe(name, deliver = null, options = {}) {
    if (this.#error) throw this.#error;
    if (options.lastN && options.recover) throw new Error("give lastN, or recover, and not both");
    const made = new Subscription(name, deliver, options, (it) => this.#leave(it));
    const known = this.#topics.get(name);
    if (known) known.join(made);
    else this.#add(new Topic(name, made), made);
    return made;
  }

  /**
   * Publish a message, and wait for the server's answer.
   * @param {string} topic
   * @param {*} payload  any JSON
   * @param {{key?: string}} options  `key`: an idempotency key, to repeat a publish whose outcome is unknown
   * @returns {Promise<Message>}  the ack; rejected with a RefusedError if the message was not published, or
   *   (UNKNOWN, CLOSED) may have been; with another error if the payload is not JSON that the server can read
   */
  publish(topic, payload, { key = random(16) } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#error) throw this.#error;
      if (this.#publishes.size >= PENDING) throw new RefusedError("BUSY", `${PENDING} publishes wait for their answers`);
      const request_id = `p${++this.#requests}`;
      const text = encode({ type: "publish", request_id, topic, payload, idempotency_key: key });
      this.#publishes.set(request_id, { text, resolve, reject, sent: null });
      this.#sendPublish(request_id);
    });
  }

  /** Reconnect now, without waiting for the pause to end. */
  retry() {
    if (!this.#socket && !this.#error) this.#connect();
  }

  /** Close the client; unanswered publishes are rejected. */
  close() {
    this.#end(new RefusedError("CLOSED", "the client was closed"));
  }

  // The connection. Events of an older socket are ignored.

  #connect() {
    clearTimeout(this.#retry);
    if (this.#token.isRenewable) {
      this.#socket = { close() {} }; // a placeholder until there is a token: retry() does nothing
      const failed = (why) => {
        this.#letGo();
        this.#wait(why);
      };
      const dial = (token) => {
        try {
          this.#dial(token);
        } catch (fault) { // no caller gets it, since this runs later
          this.#end(new RefusedError("REFUSED", `no WebSocket could be made (${fault.name})`));
        }
      };
      this.#token.ask(dial, failed);
    } else {
      this.#dial(this.#token.fixed);
    }
    this.#tell("connecting");
  }

  #dial(token) {
    this.#token.current = token;
    const protocols = token === null ? [] : [["bearer", token]]; // browsers cannot set headers
    const socket = (this.#socket = new this.#WebSocket(this.#url, ...protocols));
    this.#expect();
    this.#fault = "";
    // onclose follows. Browsers say nothing here. The package ws throws errors that have no listener.
    socket.onerror = ({ message, error }) => (this.#fault = message || error?.code || "");
    socket.onopen = () => socket === this.#socket && this.#welcome();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#hear(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
  }

  #welcome() {
    this.#open = true;
    this.#opened = performance.now();
    for (const topic of this.#topics.values()) this.#ask(topic);
    for (const requestId of [...this.#publishes.keys()]) this.#sendPublish(requestId);
    this.#pinger = setInterval(() => this.#ping(), PING_EVERY);
    this.#ping();
    this.#tell("open");
  }

  #ping() {
    this.#pinged = performance.now();
    this.#expect();
    this.#send({ type: "ping" });
  }

  /** Start the time limit for the next message. */
  #expect() {
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => this.#lost(1006, ""), ANSWER_WITHIN);
  }

  #letGo() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    clearTimeout(this.#alarm);
    clearTimeout(this.#retry);
    clearInterval(this.#pinger);
    clearTimeout(this.#replacing);
    this.#token.stop();
    this.#invalid = 0;
    this.#open = false;
    this.#asked.clear();
    clearTimeout(this.#pacer);
    this.#pacer = null;
    this.#paced = [];
    for (const topic of this.#topics.values()) topic.live = false;
  }

  #lost(code, word) {
    const wasOpen = this.#open;
    if (this.#open && performance.now() - this.#opened >= STEADY) this.#attempt = this.#token.refusals = 0;
    this.#letGo();
    const fault = wasOpen ? "" : this.#fault;
    const why = fault || `${CLOSES[code] ?? "closed"} (${code}${word && ` ${word}`})`;
    if (FOR_GOOD.has(code) || (code === TOO_BIG && !this.#giveUpLargest())) {
      this.#end(new RefusedError("REFUSED", why));
    } else if (word === "auth_timeout" && !this.#token.isGiven) {
      this.#end(new RefusedError("REFUSED", `a token is needed: ${why}`));
    } else if (this.#isRefusedForGood(code, word)) {
      this.#end(new RefusedError("REFUSED", `the token was refused: ${why}`));
    } else {
      this.#wait(why);
    }
  }

  /** Count a refusal of the token; return true if the same token was refused too often. */
  #isRefusedForGood(code, word) {
    if (code !== TOKEN_NEEDED || word !== "unauthorized") return false;
    this.#token.refusals += 1;
    return !this.#token.isRenewable && this.#token.refusals >= REFUSALS;
  }

  /** Connect again after a pause. */
  #wait(why) {
    this.#why = why;
    const ms = this.#span ? between(this.#span) : pause(this.#attempt);
    this.#span = null;
    this.#attempt += 1;
    this.#retry = setTimeout(() => this.#connect(), ms);
    console.warn(`${this.#name}: ${why}; connecting again in ${seconds(ms)} (attempt ${this.#attempt})`);
    this.#tell("waiting", { why, attempt: this.#attempt, ms });
  }

  #end(error) {
    if (this.#error) return;
    this.#error = error;
    this.#letGo();
    globalThis.removeEventListener?.("online", this.#online);
    const byUser = error.code === "CLOSED";
    if (!byUser) console.error(`${this.#name}: not connecting again: ${error.message}`);
    for (const requestId of [...this.#publishes.keys()]) this.#settle(requestId, error);
    for (const topic of [...this.#topics.values()]) this.#refuse(topic, byUser ? null : error);
    this.#tell("closed", { error: byUser ? null : error });
    this.#listeners.clear();
  }

  #tell(state, detail = {}) {
    this.#state = state;
    for (const { listener } of [...this.#listeners]) attempt(listener, state, detail);
  }

  // Messages to the server.

  #send(message) {
    if (this.#open) this.#socket.send(JSON.stringify(message));
  }

  #ask(topic) {
    if (!this.#open) return;
    const request_id = `s${++this.#requests}`;
    this.#asked.set(request_id, topic);
    this.#send({ ...topic.request(), request_id });
  }

  #sendPublish(requestId) {
    const publish = this.#publishes.get(requestId);
    const now = Date.now(); // unlike a monotonic clock, it goes on while the machine sleeps
    if (publish.sent !== null && now - publish.sent > REPEATABLE) {
      const text = `it was sent over ${REPEATABLE / 1000} s ago, and may have been carried out`;
      this.#settle(requestId, new RefusedError("UNKNOWN", text));
    } else if (this.#open) {
      publish.sent ??= now;
      this.#socket.send(publish.text);
    }
  }

  #add(topic, first) {
    encode(topic.request()); // an invalid command must fail here, and not on each connection
    topic.join(first);
    this.#topics.set(topic.name, topic);
    this.#ask(topic);
  }

  #leave(subscription) {
    if (subscription.over) return;
    subscription.end();
    const topic = this.#topics.get(subscription.topic);
    if (!topic?.subscriptions.delete(subscription) || topic.subscriptions.size) return;
    this.#send({ type: "unsubscribe", topic: topic.name });
    this.#topics.delete(topic.name);
  }

  #refuse(topic, error) {
    this.#topics.delete(topic.name); // first: a callback may subscribe to it again
    topic.end(error);
  }

  // Messages of the server.

  #hear(data) {
    clearTimeout(this.#alarm);
    try {
      const message = (this.#options.parse ?? JSON.parse)(data);
      this.#take(message);
      if (this.#options.onMessage) attempt(this.#options.onMessage, message);
    } catch (fault) {
      console.error(fault);
      this.#end(new RefusedError("REFUSED", `this is no broadcast server: ${fault}`));
    }
  }

  #take(message) {
    const topic = this.#topics.get(message.topic);
    if (this.#publishes.has(message.request_id)) {
      this.#settle(message.request_id, message.type === "ack" ? message : refusal(message));
    } else if (this.#asked.has(message.request_id)) {
      const asked = this.#asked.get(message.request_id);
      this.#asked.delete(message.request_id);
      this.#answered(asked, message);
    } else if (this.#auth && message.request_id === this.#auth.request_id) {
      this.#authAnswered(message);
    } else if (message.type === "event" || (message.type === "info" && "topic" in message)) {
      // An event before the ack belongs to an earlier subscribe of the same topic.
      if (topic?.live) this.#handOn(topic, message);
    } else if (message.type === "pong") {
      this.latency = performance.now() - this.#pinged;
    } else if (message.reason === "TOKEN_EXPIRES" && this.#token.isRenewable) {
      clearTimeout(this.#replacing);
      const ms = this.#replaced + REPLACE_EVERY - performance.now();
      this.#replacing = setTimeout(() => this.#replaceToken(), Math.max(0, ms));
    } else if ((message.type === "error" || message.type === "info") && !message.request_id) {
      console.warn(`${this.#name}: the server says:`, message.error?.message ?? message.message?.payload);
      if (message.reason === "SHUTDOWN" && message.reconnect) this.#span = message.reconnect;
    }
  }

  #handOn(topic, message) {
    if (message.type === "info" && reasonOf(message) === "TOPIC_DELETED") {
      this.#topics.delete(topic.name); // first: a callback may subscribe to it again
      topic.delete();
    } else if (message.type === "info" && reasonOf(message) === "FORBIDDEN") {
      this.#refuse(topic, new RefusedError("FORBIDDEN", "the token no longer gives the right"));
    } else {
      topic.take(message);
    }
  }

  /** Get another token and send it on the open connection, until the server accepts one. */
  #replaceToken(attempt = 0) {
    this.#replaced = performance.now();
    const again = (why) => {
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
   */
  #authAnswered(message) {
    const { token, again } = this.#auth;
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

  /** Handle the answer to a subscribe. */
  #answered(topic, message) {
    const isWanted = () => this.#topics.get(topic.name) === topic;
    if (!isWanted()) return;
    if (message.type === "ack") {
      topic.acked(message);
    } else if (message.error.code === "UNAVAILABLE") { // temporary
      const socket = this.#socket;
      const again = () => socket === this.#socket && isWanted() && this.#ask(topic);
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
    this.#pacer = null;
    while (this.#paced.length) {
      const topic = this.#paced.shift();
      if (this.#topics.get(topic.name) !== topic) continue;
      this.#ask(topic);
      break;
    }
    if (this.#paced.length) this.#pacer = setTimeout(() => this.#askNext(), this.#pace);
  }

  #settle(requestId, answer) {
    const { resolve, reject } = this.#publishes.get(requestId);
    this.#publishes.delete(requestId);
    if (answer instanceof RefusedError) reject(answer);
    else resolve(answer);
  }

  /** Give up the largest pending message: if any was too big, this one was. Return whether there was one. */
  #giveUpLargest() {
    const size = (text) => new TextEncoder().encode(text).length;
    const asked = [...this.#topics.values()].filter((it) => !it.wasAcked);
    const [largest] = [
      ...[...this.#publishes].map(([id, { text }]) => [size(text), (error) => this.#settle(id, error)]),
      ...asked.map((it) => [size(encode(it.request())), (error) => this.#refuse(it, error)]),
    ].sort(([a], [b]) => b - a);
    if (!largest) return false;
    const [bytes, refuse] = largest;
    refuse(new RefusedError("TOO_BIG", `a message of ${bytes} bytes is more than the server takes`));
    return true;
  }
}

/** Return true if a value can be sent as a token; not "bearer", since no subprotocol may occur twice. */
function isToken(value) {
  return typeof value === "string" && TOKEN.test(value) && value !== "bearer";
}

/** Return a time in ms as text. */
function seconds(ms) {
  return `${Number((ms / 1000).toPrecision(2))} s`;
}

/** Settle as `promise` does, or after `ms` reject with the error that `late` returns; null: no limit. */
function within(ms, promise, late) {
  if (ms === null) return promise;
  let timer;
  const limit = new Promise((_, reject) => (timer = setTimeout(() => reject(late()), ms)));
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Return a random pause in ms: from 0 to a maximum that doubles with each attempt (full jitter). */
function pause(attempt) {
  return Math.random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}

/** Return a random pause in ms within the span that the server has set. */
function between({ min_ms, max_ms }) {
  return min_ms + Math.random() * (max_ms - min_ms);
}

/** Return a message as JSON. Throw if the server cannot read it: its error would have no request_id. */
function encode(message) {
  const text = JSON.stringify(message);
  const plain = text.replace(/\\[^u]/g, ""); // without escaped backslashes and quotes
  if (plain.includes("\\ud")) throw new TypeError("half of a surrogate pair is no text"); // a complete pair is not escaped
  let depth = 0;
  for (const bracket of plain.replace(/"[^"]*"/g, "").match(/[[\]{}]/g)) {
    depth += "[{".includes(bracket) ? 1 : -1;
    if (depth > NESTING) throw new TypeError("it is nested too deeply");
  }
  return text;
}

/** Call a callback, and log its exception or rejection: they must not affect the client. */
function attempt(callback, ...args) {
  try {
    callback(...args)?.then?.(null, (fault) => console.error(fault));
  } catch (fault) {
    console.error(fault);
  }
}

/** Return random bytes in hexadecimal; crypto.randomUUID needs HTTPS. */
function random(bytes) {
  const hex = (byte) => byte.toString(16).padStart(2, "0");
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), hex).join("");
}

function isSamePlace(one, other) {
  return one?.epoch === other?.epoch && one?.offset === other?.offset;
}

/** Return the reason of an info, also of a server that sends no `reason` at the top level. */
function reasonOf({ reason, message }) {
  return reason ?? message.payload?.reason ?? (message.payload === DELETED ? "TOPIC_DELETED" : undefined);
}

function refusal({ error }) {
  return new RefusedError(error.code, error.message, error.retry_after_ms);
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
