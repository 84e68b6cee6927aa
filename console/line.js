// The WebSocket of the console: one that can be cut, and that notices when the server is silent.

const BEAT_EVERY = 1_000; // ms between two pings
const SILENT_AFTER = 1_500; // ms without an answer to a ping
const DEAD_AFTER = 8_000; // ms without an answer to a ping, after which the client connects again
const WAKE_AFTER = 2_500; // the same for the first ping of a page that was hidden: phones lose connections in the pocket
const LOOK_EVERY = 250; // ms between two looks at the time
const PONG = '{"type":"pong","request_id":"beat"'; // the server writes its keys in this order
const LOST = { code: 1006, reason: '' };

/**
 * Makes the WebSockets of the console's clients. `onBeat(ms)` gets the time of each answer to a ping,
 * and `onSilence(ms)` for how long nothing has come while a ping waits; 0 when something comes again.
 */
export class Wire {
  #lines = new Set();
  #until = 0; // the time at which a cut ends
  onBeat = () => {};
  onSilence = () => {};

  /** What the client uses in place of the global WebSocket. */
  get WebSocket() {
    const wire = this;
    return class extends Line {
      constructor(url, protocols) {
        super(wire, url, protocols);
      }
    };
  }

  /** Loses the connection, and lets no other one open for so many ms. */
  cut(ms) {
    this.#until = performance.now() + ms;
    for (const line of [...this.#lines]) line.lose();
  }

  /** The ms until a cut ends; 0 without one. */
  get remaining() {
    return Math.max(0, this.#until - performance.now());
  }

  add(line) {
    this.#lines.add(line);
  }

  delete(line) {
    this.#lines.delete(line);
  }
}

/** A WebSocket, as far as client.js uses one. */
class Line {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #wire;
  #socket = null; // none yet while the wire is cut
  #opening;
  #looking;
  #asked = null; // the time of a ping without an answer
  #heard = 0; // the time of the newest message
  #sent = 0; // the time of the newest ping
  #silent = false; // whether silence was reported
  #patience = DEAD_AFTER;
  #looked = 0; // the time of the last look

  constructor(wire, url, protocols = []) {
    this.#wire = wire;
    wire.add(this);
    const open = () => this.#open(url, protocols);
    if (wire.remaining) this.#opening = setTimeout(open, wire.remaining);
    else open();
  }

  get readyState() {
    return this.#socket?.readyState ?? WebSocket.CONNECTING;
  }

  get protocol() {
    return this.#socket?.protocol ?? '';
  }

  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(data) {
    // While it closes, nothing would be sent, and Chromium would log an error.
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  close(code, reason) {
    this.#stop();
    if (this.#socket) this.#socket.close(code, reason);
    else this.onclose?.({ code: 1000, reason: '' });
  }

  /** Behaves as if the connection was lost. */
  lose() {
    this.#stop();
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.onerror?.({});
    this.onclose?.(LOST);
  }

  #open(url, protocols) {
    const socket = (this.#socket = new WebSocket(url, protocols));
    socket.onopen = () => {
      this.#heard = this.#looked = performance.now();
      this.#looking = setInterval(() => this.#look(), LOOK_EVERY);
      this.onopen?.({});
    };
    socket.onmessage = ({ data }) => {
      const isPong = data.startsWith(PONG);
      this.#heard = performance.now();
      if (this.#silent) this.#wire.onSilence(0);
      if (isPong) this.#wire.onBeat(this.#heard - this.#sent);
      this.#asked = null;
      this.#silent = false;
      this.#patience = DEAD_AFTER;
      if (!isPong) this.onmessage?.({ data });
    };
    socket.onclose = ({ code, reason }) => {
      this.#stop();
      this.onclose?.({ code, reason });
    };
    socket.onerror = () => this.onerror?.({});
  }

  /** Sends a ping if it is time for one, and reports a ping without an answer. */
  #look() {
    const now = performance.now();
    const late = now - this.#looked > 3 * LOOK_EVERY; // messages may be waiting behind this call
    this.#looked = now;
    if (document.hidden) {
      this.#asked = null; // timers of hidden pages are late
      this.#patience = WAKE_AFTER;
    } else if (this.#asked === null) {
      if (now - this.#sent < BEAT_EVERY) return;
      this.#asked = this.#sent = now;
      this.send('{"type":"ping","request_id":"beat"}');
    } else if (!late && now - this.#asked > this.#patience) {
      this.lose();
    } else if (!late && now - this.#asked > SILENT_AFTER) {
      this.#silent = true;
      this.#wire.onSilence(now - this.#heard);
    }
  }

  #stop() {
    clearTimeout(this.#opening);
    clearInterval(this.#looking);
    this.#wire.delete(this);
  }
}
