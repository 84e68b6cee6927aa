/**
 * A client of the broadcast server, one module without dependencies. What it loses, it says.
 *
 *     import { connect } from "http://localhost:8080/client.js";
 *     const client = connect();
 *     const news = client.subscribe("news", (item) => console.log(item));
 *     await client.publish("news", { hello: "world" });
 *
 * It connects again whenever the connection is lost, subscribes anew, and recovers what it has missed
 * where the topic has a history. Where something may be missing, an item of the kind "lost" comes in its
 * place of the order. A publish is settled by the server's answer, also across a reconnect; its key
 * makes it happen once.
 *
 * @typedef {{epoch: string, offset: number}} Position  a place in a topic's order: all up to it is known
 * @typedef {{kind: "event", topic: string, id: *, payload: *, ts: string, offset?: number}} Event
 * @typedef {{kind: "lost", topic: string, why: string, count?: number}} Lost  load your state anew
 * @typedef {{kind: "deleted", topic: string}} Deleted  the topic was deleted: the last item
 * @typedef {Event | Lost | Deleted} Item
 * @typedef {{type: string, topic?: string, epoch?: string, offset?: number, recovered?: boolean,
 *   duplicate?: boolean}} Message  what the server says, such as an ack
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 * @typedef {{why?: string, attempt?: number, ms?: number, error?: ?RefusedError}} Detail
 *   of "waiting": why, and the next attempt is in so many ms; of "closed": why, if not by you
 * @typedef {object} Options
 * @property {string} [clientId]
 * @property {typeof WebSocket} [WebSocket]  in place of the global one, such as that of the package ws
 * @property {(state: State, detail: Detail) => void} [onState]
 * @property {(message: Message) => void} [onMessage]  all that the server says, to watch it
 * @property {(text: string) => *} [parse]  in place of JSON.parse
 * @typedef {object} Wish
 * @property {?number} [lastN]  begin with so many of the newest events
 * @property {?Position} [recover]  or begin behind this position
 * @property {(ack: Message) => void} [onAck]  for the first time, and on each new connection
 * @property {(error: RefusedError) => void} [onRefused]
 */

const BUFFER = 1_000; // items that wait for an iterator; then the oldest go
const PENDING = 1_000; // publishes that may wait for their answers
const REPEATABLE = 240_000; // ms for which one is sent again: the server knows keys for 300 s
const ANSWER_WITHIN = 10_000; // ms without a word, after a connect or a ping, then it is dead
const PING_EVERY = 25_000; // ms: browsers show no WebSocket pings
const NESTING = 250 + 1; // levels that the server takes: those of a payload, in a message
const FIRST = 500; // ms, at most, before the first attempt to connect again; then twice …
const LONGEST = 20_000; // … as many, up to this
const STEADY = 10_000; // ms that a connection must have lasted for that to begin anew

const TOO_BIG = 1009; // the Close code for a message over MAX_MESSAGE_BYTES
// Close codes after which nobody should come back; after all others, with any reason, one should.
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
 * Something was not carried out, or the server does not want this client at all. `code` is the
 * server's, or CLOSED (you closed the client), REFUSED (for good), BUSY (too many publishes wait),
 * TOO_BIG, or UNKNOWN (nobody can say whether it was carried out).
 */
export class RefusedError extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(`${code}: ${text}`);
    this.name = "RefusedError";
    this.code = code;
    this.text = text;
  }
}

/** The items of one topic in their order, made by `Client.subscribe`: an async iterator without a callback. */
export class Subscription {
  /**
   * Behind the item that you got last: keep it, to recover on another page. Null where the topic has
   * no history, is not subscribed yet, or nothing of lastN has come.
   * @type {?Position}
   */
  position;
  /** @type {Promise<void>}  settled once the server has acked it, or will not; CLOSED where it was closed before */
  ready;
  over = false;
  begun = false; // whether what comes is for it
  #after = null; // a position: events up to it are not for it
  #items = []; // that wait for the iterator, each with the position behind it
  #overrun = 0; // items that went because too many waited
  #waiting = []; // who waits for an item
  #error = null; // why it is over, where it was refused
  #settle;
  #deliver;
  #wish;
  #leave;

  /** @param {string} topic @param {?(item: Item) => void} deliver @param {Wish} wish @param {Function} leave */
  constructor(topic, deliver, wish, leave) {
    this.topic = topic;
    this.lastN = wish.lastN ?? 0;
    this.recover = this.position = wish.recover ?? null;
    this.#deliver = deliver;
    this.#wish = wish;
    this.#leave = leave;
    this.ready = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve());
    });
    this.ready.catch(() => {}); // it is told elsewhere too
  }

  /** @returns {AsyncIterableIterator<Item>} */
  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<Item>>}  rejected where the server refuses the subscription, or the client */
  async next() {
    while (!this.#overrun && !this.#items.length) {
      if (this.#error) throw this.#error;
      if (this.over) return { done: true, value: undefined };
      await new Promise((resolve) => this.#waiting.push(resolve));
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

  /** What `for await` calls when it is left. @returns {Promise<IteratorResult<Item>>} */
  async return() {
    this.close();
    return { done: true, value: undefined };
  }

  /** Nothing more comes; unsubscribe, where it was the topic's last. */
  close() {
    this.#items = [];
    this.#overrun = 0;
    this.#leave(this);
  }

  // The topic's side.

  /** Whether both begin in the same place. */
  wantsTheSame({ lastN, recover }) {
    return this.lastN === lastN && isSamePlace(this.recover, recover);
  }

  /** The server has subscribed the topic. @param {?Position} position  where it begins, if not as it wanted */
  acked(position = null) {
    this.position = position ?? this.position;
    this.#settle();
  }

  /** The server's ack, which is the topic's first or one on a new connection. */
  heardAck(ack) {
    if (this.#wish.onAck) attempt(this.#wish.onAck, ack);
  }

  /** Begin where the topic is by now, whatever was wanted of before: that is told as lost. */
  begin(position) {
    if (this.over) return;
    const wanted = this.recover;
    const ahead = wanted?.epoch === position?.epoch && wanted?.offset > position?.offset; // others may be behind it
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

  /** The next item. @param {Item} item @param {?Position} position  where the subscriber is behind it */
  put(item, position) {
    if (this.over || !this.begun) return; // another's callback may have closed it just now
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

  /** Nothing more comes; with `error`, its subscriber is told. @param {?RefusedError} error */
  end(error = null) {
    if (this.over) return;
    this.over = true;
    this.#error = error;
    this.#wake();
    this.#settle(error ?? new RefusedError("CLOSED", "it was closed before the server acked it"));
    if (error && this.#wish.onRefused) attempt(this.#wish.onRefused, error);
    else if (error && this.#deliver) console.error(`${this.topic}: ${error.message}`);
  }

  /** Whether an event is one of those before its beginning. */
  #has(position) {
    return this.#after !== null && this.#after.epoch === position?.epoch && position.offset <= this.#after.offset;
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** One topic on the wire, for all its subscriptions: what is new, what has come before, and what is lost. */
class Topic {
  subscriptions = new Set(); // which share it
  live = false; // whether the current connection has acked it
  wasAcked = false; // whether any connection has
  refusals = 0; // for passing reasons, since the last ack
  #first; // the subscription whose lastN or recover is asked of the server
  #heard; // a position: what comes behind it has come, or is to come
  #newest; // events before that which are wanted too; 0 once one has come
  #begun; // whether anything is to come

  /** @param {string} name @param {Subscription} first */
  constructor(name, first) {
    this.name = name;
    this.#first = first;
    this.#heard = first.recover;
    this.#newest = first.lastN;
    this.#begun = this.#heard !== null;
  }

  /** Add a subscription. Where it is not the first, it gets what comes from here on. */
  join(subscription) {
    this.subscriptions.add(subscription);
    if (!this.wasAcked) subscription.begun = subscription.wantsTheSame(this.#first);
    else queueMicrotask(() => subscription.begin(this.#heard)); // which may call back
  }

  /** The subscribe command, without a request_id. */
  wish() {
    const wish = { type: "subscribe", topic: this.name };
    if (this.#newest) wish.last_n = this.#newest;
    else if (this.#heard) wish.recover = this.#heard;
    return wish;
  }

  /** The server has subscribed it, for the first time or on a new connection. */
  acked(ack) {
    // Where the newest are asked for twice, since nothing of them had come, what is to come is what was
    // to come then: the first event tells whether there is a hole.
    const again = this.#newest && this.#heard && this.#heard.epoch === ack.epoch;
    const known = "epoch" in ack;
    const top = known ? { epoch: ack.epoch, offset: ack.offset } : null;
    let start = null;
    if (!ack.recovered && !again) {
      this.#heard = top;
      if (!known || !ack.offset) this.#newest = 0; // none of them is to come
      const why = known ? "which the server has forgotten" : "for want of a history";
      if (this.#begun) this.#lose(`what was published meanwhile, ${why}`);
      else if (!this.#newest) start = top;
    }
    const isFirst = !this.wasAcked;
    this.live = this.wasAcked = this.#begun = true;
    this.refusals = 0;
    for (const subscription of [...this.subscriptions]) {
      if (subscription.over) continue; // another's callback has closed it just now
      if (isFirst && subscription.begun) subscription.acked(start);
      else if (isFirst) subscription.begin(top);
      subscription.heardAck(ack);
    }
  }

  /** An event or an info of the topic, on the connection that has acked it. */
  take(message) {
    if (message.type === "event") {
      const { message: { id, payload }, ts, offset } = message;
      const event = { kind: "event", topic: this.name, id, payload, ts };
      if (offset === undefined) this.#put(event);
      else if (this.#isNew(offset)) this.#put({ ...event, offset });
    } else if (reasonOf(message) === "GAP") {
      const { epoch, offset, dropped: count } = message.message.payload;
      if (epoch) {
        // Within an epoch the count never goes back; but what is to come of the newest begins there.
        const same = epoch === this.#heard?.epoch && !this.#newest;
        this.#heard = { epoch, offset: same ? Math.max(this.#heard.offset, offset) : offset };
        this.#newest = 0;
      }
      this.#lose(`${count ?? "some"} events, on their way here`, count);
    }
  }

  /** The server has deleted it: the last item of each subscription. */
  delete() {
    this.#put({ kind: "deleted", topic: this.name });
    this.end();
  }

  /** Nothing more comes; with `error`, the subscribers are told. @param {?RefusedError} error */
  end(error = null) {
    this.live = false;
    for (const subscription of [...this.subscriptions]) subscription.end(error);
  }

  /** Whether an event has not come before; a hole before it is told. */
  #isNew(offset) {
    if (!this.#heard) return true;
    const missing = offset - this.#heard.offset - 1;
    if (missing < 0 && !this.#newest) return false;
    if (missing > 0) this.#lose(`${missing} events, which the server did not send`, missing);
    this.#newest = 0;
    this.#heard = { epoch: this.#heard.epoch, offset };
    return true;
  }

  #lose(why, count) {
    console.warn(`${this.name}: lost: ${why}`);
    this.#put({ kind: "lost", topic: this.name, why, ...(count && { count }) });
  }

  #put(item) {
    const position = this.#heard; // a callback may unsubscribe, and others may come
    for (const subscription of [...this.subscriptions]) subscription.put(item, position);
  }
}

/** One connection that is made again and again; made by `connect`. */
export class Client {
  /** @type {?number}  ms that the newest ping took to be answered */
  latency = null;
  #url;
  #options;
  #WebSocket;
  #socket = null; // the newest; null while none is wanted
  #open = false;
  #opened = 0; // when it opened
  #error = null; // why it is over
  #attempt = 0; // to connect again, since a connection was steady
  #requests = 0;
  #pinged = 0; // when the newest ping was sent
  #pinger; // timers: the next ping, no answer, the next attempt
  #alarm;
  #retry;
  #span = null; // the next pause's, if the server has set it
  #topics = new Map(); // by name
  #asked = new Map(); // on this connection, by request_id: topics
  #publishes = new Map(); // those that are not answered, by request_id, in the order of their sending
  #online = () => (this.#open ? this.#ping() : this.retry());

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    this.#url = new URL(url);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#url.searchParams.set("client_id", options.clientId || `js-${random(4)}`);
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new Error("there is no WebSocket here: pass one as the option WebSocket");
    this.#connect();
    globalThis.addEventListener?.("online", this.#online);
  }

  /**
   * Subscribe to a topic. Several subscriptions may share one.
   * @param {string} name
   * @param {?(item: Item) => void} deliver  called with each item; without one, iterate
   * @param {Wish} wish  asked of the server for the topic's first subscription; a later one that wants
   *   something else begins where the topic is by then, with an item of the kind "lost"
   * @returns {Subscription}
   */
  subscribe(name, deliver = null, wish = {}) {
    if (this.#error) throw this.#error;
    if (wish.lastN && wish.recover) throw new Error("give lastN, or recover, and not both");
    const made = new Subscription(name, deliver, wish, (it) => this.#leave(it));
    const known = this.#topics.get(name);
    if (known) known.join(made);
    else this.#add(new Topic(name, made), made);
    return made;
  }

  /**
   * Publish; settled by the server's answer.
   * @param {string} topic
   * @param {*} payload  any JSON
   * @param {{key?: string}} options  `key`: of your own, to repeat a publish whose answer you do not know
   * @returns {Promise<Message>}  the ack; rejected with a RefusedError, of which UNKNOWN and CLOSED say that
   *   it may have been carried out; with another error, where it is no JSON that the server can read
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

  /** Connect now, where it waits to. */
  retry() {
    if (!this.#socket && !this.#error) this.#connect();
  }

  /** Leave for good. What is not answered is rejected. */
  close() {
    this.#end(new RefusedError("CLOSED", "the client was closed"));
  }

  // The connection. What an older socket still says is not listened to.

  #connect() {
    clearTimeout(this.#retry);
    const socket = (this.#socket = new this.#WebSocket(this.#url));
    this.#expect();
    socket.onerror = () => {}; // onclose follows; but the package ws throws what nobody listens for
    socket.onopen = () => socket === this.#socket && this.#welcome();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#hear(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
    this.#tell("connecting");
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

  /** A connection that is silent from here on is dead. */
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
    this.#open = false;
    this.#asked.clear();
    for (const topic of this.#topics.values()) topic.live = false;
  }

  #lost(code, word) {
    if (this.#open && performance.now() - this.#opened >= STEADY) this.#attempt = 0;
    this.#letGo();
    const why = `${CLOSES[code] ?? "closed"} (${code}${word && ` ${word}`})`;
    if (FOR_GOOD.has(code) || (code === TOO_BIG && !this.#giveUpLargest())) {
      this.#end(new RefusedError("REFUSED", why));
      return;
    }
    const ms = this.#span ? between(this.#span) : pause(this.#attempt);
    this.#span = null;
    this.#attempt += 1;
    this.#retry = setTimeout(() => this.#connect(), ms);
    this.#tell("waiting", { why, attempt: this.#attempt, ms });
  }

  #end(error) {
    if (this.#error) return;
    this.#error = error;
    this.#letGo();
    globalThis.removeEventListener?.("online", this.#online);
    const byUser = error.code === "CLOSED";
    if (!byUser) console.error(`Not connecting again: ${error.message}`);
    for (const requestId of [...this.#publishes.keys()]) this.#settle(requestId, error);
    for (const topic of [...this.#topics.values()]) this.#refuse(topic, byUser ? null : error);
    this.#tell("closed", { error: byUser ? null : error });
  }

  #tell(state, detail = {}) {
    if (this.#options.onState) attempt(this.#options.onState, state, detail);
  }

  // What is said.

  #send(message) {
    if (this.#open) this.#socket.send(JSON.stringify(message));
  }

  #ask(topic) {
    if (!this.#open) return;
    const request_id = `s${++this.#requests}`;
    this.#asked.set(request_id, topic);
    this.#send({ ...topic.wish(), request_id });
  }

  #sendPublish(requestId) {
    const publish = this.#publishes.get(requestId);
    const now = Date.now(); // which goes on while the machine sleeps
    if (publish.sent !== null && now - publish.sent > REPEATABLE) {
      const text = `it was sent over ${REPEATABLE / 1000} s ago, and may have been carried out`;
      this.#settle(requestId, new RefusedError("UNKNOWN", text));
    } else if (this.#open) {
      publish.sent ??= now;
      this.#socket.send(publish.text);
    }
  }

  #add(topic, first) {
    encode(topic.wish()); // what can't be said must fail here, and not on each connection
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

  // What is heard.

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
    } else if (message.type === "event" || (message.type === "info" && "topic" in message)) {
      // Before the ack of this subscribe, it belongs to an earlier one of the same topic.
      if (topic?.live) this.#handOn(topic, message);
    } else if (message.type === "pong") {
      this.latency = performance.now() - this.#pinged;
    } else if ((message.type === "error" || message.type === "info") && !message.request_id) {
      console.warn("The server says:", message.error?.message ?? message.message?.payload);
      if (message.reason === "SHUTDOWN" && message.reconnect) this.#span = message.reconnect;
    }
  }

  #handOn(topic, message) {
    if (message.type === "info" && reasonOf(message) === "TOPIC_DELETED") {
      this.#topics.delete(topic.name); // first: a callback may subscribe to it again
      topic.delete();
    } else {
      topic.take(message);
    }
  }

  /** The answer to a subscribe. */
  #answered(topic, message) {
    const isWanted = () => this.#topics.get(topic.name) === topic;
    if (!isWanted()) return;
    if (message.type === "ack") {
      topic.acked(message);
    } else if (message.error.code === "UNAVAILABLE") { // that passes
      const socket = this.#socket;
      const again = () => socket === this.#socket && isWanted() && this.#ask(topic);
      setTimeout(again, pause(topic.refusals++));
    } else {
      this.#refuse(topic, refusal(message));
    }
  }

  #settle(requestId, answer) {
    const { resolve, reject } = this.#publishes.get(requestId);
    this.#publishes.delete(requestId);
    if (answer instanceof RefusedError) reject(answer);
    else resolve(answer);
  }

  /** The server refused a message for its size: if one was too big, the largest was. Whether there was one. */
  #giveUpLargest() {
    const size = (text) => new TextEncoder().encode(text).length;
    const asked = [...this.#topics.values()].filter((it) => !it.wasAcked);
    const [largest] = [
      ...[...this.#publishes].map(([id, { text }]) => [size(text), (error) => this.#settle(id, error)]),
      ...asked.map((it) => [size(encode(it.wish())), (error) => this.#refuse(it, error)]),
    ].sort(([a], [b]) => b - a);
    if (!largest) return false;
    const [bytes, refuse] = largest;
    refuse(new RefusedError("TOO_BIG", `a message of ${bytes} bytes is more than the server takes`));
    return true;
  }
}

/** Full jitter: any part of a span that doubles, so that not all come back at once. */
function pause(attempt) {
  return Math.random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}

/** Any part of the span that a server has set, so that not all of its clients come back at once. */
function between({ min_ms, max_ms }) {
  return min_ms + Math.random() * (max_ms - min_ms);
}

/** A message as JSON that the server can read; what it can't, it answers to nobody. */
function encode(message) {
  const text = JSON.stringify(message);
  const plain = text.replace(/\\[^u]/g, ""); // without the backslashes and quotes that are text
  if (plain.includes("\\ud")) throw new TypeError("half of a surrogate pair is no text"); // a whole one is not escaped
  let depth = 0;
  for (const bracket of plain.replace(/"[^"]*"/g, "").match(/[[\]{}]/g)) {
    depth += "[{".includes(bracket) ? 1 : -1;
    if (depth > NESTING) throw new TypeError("it is nested too deeply");
  }
  return text;
}

/** Calls what is not ours: its fault must not become one of the client, nor of nobody where it comes later. */
function attempt(callback, ...args) {
  try {
    callback(...args)?.then?.(null, (fault) => console.error(fault));
  } catch (fault) {
    console.error(fault);
  }
}

/** Random bytes in hexadecimal; crypto.randomUUID is only there with HTTPS. */
function random(bytes) {
  const hex = (byte) => byte.toString(16).padStart(2, "0");
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), hex).join("");
}

function isSamePlace(one, other) {
  return one?.epoch === other?.epoch && one?.offset === other?.offset;
}

/** Why the server says an info, also where it is one that gives no top-level reason. */
function reasonOf({ reason, message }) {
  return reason ?? message.payload?.reason ?? (message.payload === DELETED ? "TOPIC_DELETED" : undefined);
}

function refusal({ error }) {
  return new RefusedError(error.code, error.message);
}

/** The address of the server that this module came from. In a bundle, nobody knows which it was. */
function origin() {
  const here = String(import.meta.url); // not inside new URL(), where bundlers look for assets
  if (/^https?:[^?#]*\/client\.js([?#]|$)/.test(here)) return new URL("ws", here);
  throw new Error("pass the address of the server, such as ws://host:8080/ws: client.js did not come from it");
}

/**
 * A client of the server at `url`, until it is closed.
 * @param {string | URL} [url]  ws://host:8080/ws; without it, the server whose /client.js this is
 * @param {Options} [options]
 * @returns {Client}
 */
export function connect(url = origin(), options = {}) {
  return new Client(url, options);
}
