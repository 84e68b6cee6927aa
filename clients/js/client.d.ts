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
export type Position = {
    epoch: string;
    offset: number;
};
export type Event = {
    kind: "event";
    /**
     * the name of the topic
     */
    topic: string;
    /**
     * the id of the message, unique on the server unless the publisher chose it
     */
    id: any;
    /**
     * what was published: any JSON
     */
    payload: any;
    /**
     * when the server took it, in UTC, such as "2026-11-26T09:00:00Z"
     */
    ts: string;
    /**
     * its place in the topic's order; only with a history
     */
    offset?: number;
};
export type Lost = {
    kind: "lost";
    /**
     * the name of the topic
     */
    topic: string;
    /**
     * the reason, as a text for people
     */
    why: string;
    /**
     * the number of lost events, if it is known
     */
    count?: number;
};
export type Deleted = {
    kind: "deleted";
    topic: string;
};
export type Item = Event | Lost | Deleted;
export type Message = {
    [key: string]: any;
    type: string;
};
export type Ack = {
    [key: string]: any;
    topic: string;
    epoch?: string;
    offset?: number;
    recovered?: boolean;
    duplicate?: boolean;
    degraded?: boolean;
};
export type BatchItem = {
    /**
     * the name of the topic
     */
    topic: string;
    /**
     * any JSON
     */
    payload: any;
    /**
     * an idempotency key, as of `publish`
     */
    key?: string;
};
export type History = {
    /**
     * the name of the topic
     */
    topic: string;
    /**
     * in the order that was asked for
     */
    events: Event[];
    /**
     * the place of the topic's newest event
     */
    position: Position;
};
export type TopicPage = {
    /**
     * the number of all topics
     */
    count: number;
    /**
     * the number of subscribers of each topic
     */
    topics: {
        [name: string]: number;
    };
    /**
     * pass it as `after` to get the next page, if there is one
     */
    next?: string;
};
export type State = "connecting" | "open" | "waiting" | "closed";
export type Detail = {
    /**
     * why there is no connection; with "waiting"
     */
    why?: string;
    /**
     * the number of the next attempt; with "waiting"
     */
    attempt?: number;
    /**
     * the time until the next attempt, in ms; with "waiting"
     */
    ms?: number;
    /**
     * why the client has ended, or null after `close`; with "closed"
     */
    error?: RefusedError | null;
};
export type StateListener = (...change: [state: "connecting" | "open", detail: Detail] | [state: "waiting", detail: Detail & {
    why: string;
    attempt: number;
    ms: number;
}] | [state: "closed", detail: Detail & {
    error: RefusedError | null;
}]) => void;
export type Transport = "websocket" | "sse";
export type Socket = {
    readyState?: number;
    send(text: string): void;
    close(): void;
    onopen: any;
    onmessage: any;
    onclose: any;
    onerror: any;
};
export type Options = {
    /**
     * the name of the client in the server's lists; by default a random one
     */
    clientId?: string;
    /**
     * a token, or a function that returns one; it
     * is called for each connection and each HTTP call, and before the token of an open connection expires
     */
    token?: string | null | (() => string | Promise<string>);
    /**
     * HTTP headers of handshakes and calls; not in browsers, where pages
     * cannot set them
     */
    headers?: {
        [name: string]: string;
    };
    /**
     * options of TLS for the package ws: `ca`, `cert`, `key`, `rejectUnauthorized`
     */
    tls?: {
        [name: string]: any;
    };
    /**
     * used in place of the global one, such as that of
     * the package ws
     */
    WebSocket?: new (url: any, ...rest: any[]) => Socket;
    /**
     * used in place of the global one
     */
    fetch?: (url: any, init?: any) => Promise<any>;
    /**
     * what may be used, in this order; by default `["websocket", "sse"]`
     */
    transports?: Transport[];
    /**
     * the first listener, as of `client.onState`: it also hears of the first attempt
     */
    onState?: StateListener;
    /**
     * called with every message of the server
     */
    onMessage?: (message: Message) => void;
    /**
     * used in place of JSON.parse
     */
    parse?: (text: string) => any;
};
export type SubscribeOptions = {
    /**
     * the number of newest events to begin with
     */
    lastN?: number | null;
    /**
     * the position after which to begin, such as a saved `subscription.position`
     */
    recover?: Position | null;
    /**
     * called with the first ack, and with one on each new connection
     */
    onAck?: (ack: Ack) => void;
    /**
     * called if the server refuses or ends the subscription; by
     * default, the error is logged
     */
    onRefused?: (error: RefusedError) => void;
};
/**
 * A request was refused, or the client was refused for good. `code` is the server's, or CLOSED (the
 * client was closed), REFUSED (for good), BUSY (too many publishes are pending), TOO_BIG, UNKNOWN (the request
 * may have been carried out), or TIMEOUT (it took longer than allowed).
 */
export declare class RefusedError extends Error {
    code: string;
    text: string;
    retryAfterMs: number | undefined;
    /**
     * @param {string} code
     * @param {string} text
     * @param {number} [retryAfterMs]
     */
    constructor(code: string, text: string, retryAfterMs?: number);
}
/** One subscriber's items, in order; create it with `Client.subscribe`. Without a callback, an async iterator. */
export declare class Subscription {
    #private;
    /** The topic's name. */
    get topic(): string;
    /**
     * The position after the last item that you got. Save it to recover on another page. Null if the topic
     * has no history, is not subscribed yet, or none of lastN has arrived.
     * @returns {Position | null}
     */
    get position(): Position | null;
    /**
     * Wait for the server's ack.
     * @param {{timeout?: number | null}} [options]  `timeout` in ms; null: no limit
     * @returns {Promise<void>}  rejected by a refusal; with CLOSED if it was closed before the ack; with TIMEOUT
     */
    ready(options?: {
        timeout?: number | null;
    }): Promise<void>;
    /** @returns {AsyncIterableIterator<Item>} */
    [Symbol.asyncIterator](): AsyncIterableIterator<Item>;
    /** @returns {Promise<IteratorResult<Item, undefined>>}  rejected if the server refuses the subscription, or the client */
    next(): Promise<IteratorResult<Item, undefined>>;
    /**
     * Called by `for await` at a break.
     * @returns {Promise<IteratorResult<Item, undefined>>}
     */
    return(): Promise<IteratorResult<Item, undefined>>;
    /** Drop the buffered items and end the subscription; unsubscribe if it is the topic's last one. */
    close(): void;
}
/** A client that reconnects; create it with `connect`. */
export declare class Client {
    #private;
    /**
     * The state of the connection.
     * @returns {State}
     */
    get state(): State;
    /**
     * How an open connection was made; null without one.
     * @returns {Transport | null}
     */
    get transport(): Transport | null;
    /**
     * Round trip of the newest ping in ms; null before it, and with streams.
     * @returns {number | null}
     */
    get latency(): number | null;
    /**
     * Call `listener` with each new state. The state at the time of the call is in `state`.
     * @param {StateListener} listener
     * @returns {() => void}  removes the listener
     */
    onState(listener: StateListener): () => void;
    /**
     * Wait until the connection is open. After a timeout the client still tries to connect.
     * @param {{timeout?: number | null}} [options]  `timeout` in ms; null: no limit
     * @returns {Promise<void>}  rejected with TIMEOUT, which says why the last attempt failed, or with the error
     *   that ended the client
     */
    ready(options?: {
        timeout?: number | null;
    }): Promise<void>;
    /**
     * Wait until the client is closed.
     * @returns {Promise<void>}  rejected if the server has refused the client
     */
    ended(): Promise<void>;
    /**
     * Subscribe to a topic. Several subscriptions may share a topic.
     * @param {string} topic
     * @param {((item: Item) => unknown) | null} callback  called with each item; without it, iterate over the
     *   subscription
     * @param {SubscribeOptions} options  the server gets `lastN` or `recover` of the topic's first subscription
     *   only; a later one with others begins at the topic's current position, with an item of the kind "lost"
     * @returns {Subscription}
     */
    subscribe(topic: string, callback?: ((item: Item) => unknown) | null, options?: SubscribeOptions): Subscription;
    /**
     * Publish a message, and wait for the server's answer.
     * @param {string} topic
     * @param {any} payload  any JSON
     * @param {{key?: string, timeout?: number | null}} options  `key`: an idempotency key, to repeat a publish whose
     *   outcome is unknown; `timeout` in ms, after which it is not sent again; null: no limit
     * @returns {Promise<Ack>}  the ack; rejected with a RefusedError if the message was not published, or
     *   (UNKNOWN, CLOSED, TIMEOUT) may have been; with another error if the payload is not JSON that the server can read
     */
    publish(topic: string, payload: any, options?: {
        key?: string;
        timeout?: number | null;
    }): Promise<Ack>;
    /**
     * Publish up to 1,000 messages in one HTTP request. It is repeated, with the same keys, if the connection is lost
     * or the server is not available, until the timeout.
     * @param {BatchItem[]} items
     * @param {{timeout?: number | null}} options  `timeout` in ms; null: no limit
     * @returns {Promise<(Ack | RefusedError)[]>}  for each item, in order, the server's answer, or why it was refused;
     *   rejected if the whole request was
     */
    publishBatch(items: BatchItem[], options?: {
        timeout?: number | null;
    }): Promise<(Ack | RefusedError)[]>;
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
    history(topic: string, options?: {
        limit?: number;
        sinceEpoch?: string;
        sinceOffset?: number;
        reverse?: boolean;
        wait?: number;
        timeout?: number | null;
    }): Promise<History>;
    /**
     * List topics with their numbers of subscribers, in the order of their names.
     * @param {{prefix?: string, after?: string, limit?: number, timeout?: number | null}} options  topics whose names
     *   begin with `prefix` and come after `after`, at most `limit` (1,000); `timeout` in ms; null: no limit
     * @returns {Promise<TopicPage>}
     */
    topics(options?: {
        prefix?: string;
        after?: string;
        limit?: number;
        timeout?: number | null;
    }): Promise<TopicPage>;
    /** Connect now, without waiting for the pause to end. */
    retry(): void;
    /** Close the client; unanswered publishes are rejected. */
    close(): void;
}
/**
 * Connect to the server at `url`, until the client is closed.
 * @param {string | URL} [url]  ws://host:8080/ws; by default the server that served this module
 * @param {Options} [options]
 * @returns {Client}
 */
export declare function connect(url?: string | URL, options?: Options): Client;
