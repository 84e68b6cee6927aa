// The load generator: many WebSocket connections on plain sockets, one thread, one epoll loop.
//
// It subscribes, publishes, and checks all messages: every subscriber must get every message of its topics
// once, in order, with the topic's name and the payload that was sent, in valid frames (RFC 6455), and
// every command must be answered. Otherwise the run fails with the reason. It measures the processor time
// of the server's process, and its own, to show whether the generator was the limit. The result is one
// line of JSON on standard output.
//
//   loadgen --port N --pid N --mode burst|rate|echo|rest|storm|idle|recover [options]
//
//   --pid N[,N...] the server's processes
//   --conns N      connections that subscribe (echo, rest: pairs of publisher and subscriber)
//   --topics N     topics; a connection is in --per of them (all in the one, for N = 1)
//   --window N     messages in flight (burst: sent at once, awaited together; recover: of each recovery)
//   --rate N       messages a second (rate)
//   --payload N    bytes of payload
//   --seconds N    time of the measurement (1), after --warm-up (0.5)
//   --patience N   seconds for any expected message to arrive (20)
//   --protocol P   json (this server's), socketio, centrifugo, protobuf (Centrifugo's, too), or nats
//   --publish-port N, --publish-pid N   of the server to publish to, if it is another one
//   --redis-pid N  of the Redis between the two
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protobuf.h"

enum {
    BUFFER = 1 << 20,
    PROCESSES = 64,     // of the server
    EVENTS = 1024,
    MARK = 16,           // bytes of "#TTTTT:SSSSSSSS#", the topic and number that identify an event
    EDGE = 1024,         // bytes of a payload's filler that are compared, at either end
    TOPICS = 100000,     // the limit of the mark's topic number
    STORM = 64,          // handshakes under way at a time
    WARM = 200,          // connections opened before memory or processor time is measured
    NAP = 100000,        // nanoseconds between two polls while many deliveries are due
};

typedef struct {
    int fd;
    bool upgraded;
    bool publisher;
    bool http;          // REST: answers are HTTP responses
    bool waits;         // whether output is queued for the socket
    uint32_t index;     // number within its kind
    uint32_t due;       // number of unanswered commands
    uint8_t *in;        // the bytes of an incomplete frame
    size_t in_size;
    uint8_t *part;      // the fragments of an incomplete message, or NULL
    size_t part_size;
    uint8_t *rest;      // NATS: the bytes of an incomplete line or message
    size_t rest_size;
    uint8_t *out;       // bytes that the socket did not take
    size_t out_size, out_room;
} Conn;

static struct {
    int port, pids[PROCESSES], processes, publish_port, publish_pid, redis_pid;
    const char *mode;
    enum { JSON, SOCKETIO, CENTRIFUGO, PROTOBUF, NATS } protocol;
    uint32_t conns, topics, per, window, payload;
    double rate, seconds, warm_up, patience;
} opt = {.conns = 1000, .topics = 1, .per = 1, .window = 1, .payload = 128,
         .seconds = 1, .warm_up = 0.5, .patience = 20};

// What differs between protocols. The arguments of the formats: the number of the topic; of a publish also the
// number of the event, the filler, and the size of the message; of a recovery also the epoch.
static const struct Protocol {
    const char *name;
    const char *path;        // of the WebSocket
    int opcode;              // of the server's frames: 1 for text, 2 for binary
    const char *subscribe, *unsubscribe, *recover, *publish;
    const char *answer;      // what an answer contains
    const char *refusal;     // what an error contains
    const char *kind;        // what only events contain
    const char *topic;       // how an event names its topic
    char end;                // the last byte of an event
    const char *post_path, *post, *posted;  // REST: the path, the body, and what the response contains
} protocols[] = {
    [JSON] = {
        "json", "/ws?client_id=c", 1,
        "{\"type\":\"subscribe\",\"topic\":\"t%u\",\"client_id\":\"c\"}",
        "{\"type\":\"unsubscribe\",\"topic\":\"t%u\",\"client_id\":\"c\"}",
        "{\"type\":\"subscribe\",\"topic\":\"t%u\",\"client_id\":\"c\",\"recover\":{\"epoch\":\"%s\",\"offset\":0}}",
        "{\"type\":\"publish\",\"topic\":\"t%1$u\",\"message\":{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}}",
        "\"ack\"", "\"error\"", "\"event\"", "\"t%u\"", '}',
        "/publish", "{\"topic\":\"t%1$u\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}", "\"published\"",
    },
    [SOCKETIO] = {
        "socketio", "/socket.io/?EIO=4&transport=websocket", 1,
        "42[\"subscribe\",{\"topic\":\"t%u\"}]",
        NULL, NULL,
        "42[\"publish\",{\"topic\":\"t%1$u\",\"message\":{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}}]",
        "\"ack\"", "\"error\"", "\"event\"", "\"t%u\"", ']',
    },
    [CENTRIFUGO] = {
        "centrifugo", "/connection/websocket", 1,
        "{\"id\":2,\"subscribe\":{\"channel\":\"t%u\"}}",
        "{\"id\":4,\"unsubscribe\":{\"channel\":\"t%u\"}}",
        "{\"id\":2,\"subscribe\":{\"channel\":\"t%u\",\"recover\":true,\"epoch\":\"%s\"}}",
        "{\"id\":3,\"publish\":{\"channel\":\"t%1$u\",\"data\":{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}}}",
        "\"id\":", "\"error\"", "\"push\"", "\"t%u\"", '}',
        "/api/publish",
        "{\"channel\":\"t%1$u\",\"data\":{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}}", "\"result\"",
    },
    [PROTOBUF] = {
        // Commands are put together field by field. A publish has this as its data.
        "protobuf", "/connection/websocket?cf_protocol=protobuf", 2,
        "subscribe", "unsubscribe", "recover",
        "{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}",
        .end = '}',
        .post_path = "/api/publish",
        .post = "{\"channel\":\"t%1$u\",\"data\":{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}}",
        .posted = "\"result\"",
    },
    [NATS] = {
        // The PONG shows that the subscription is there. Publishes have no answer.
        "nats", "/", 2,
        "SUB t%1$u %1$u\r\nPING\r\n",
        NULL, NULL,
        "PUB t%1$u %4$d\r\n{\"id\":\"m\",\"payload\":\"#%1$05u:%2$08u#%3$s\"}\r\n",
        "PONG", "-ERR", "MSG ", "MSG t%1$u %1$u ", '}',
    },
};
static const struct Protocol *protocol = &protocols[JSON];

static int epoll;
static uint8_t *buffer;          // of the newest read, of any connection
static Conn *conns;              // subscribers first, then publishers
static uint32_t conn_count, upgraded;
static uint32_t *next_seq;       // the next expected number, by connection and topic
static uint32_t *sent_seq;       // the newest number sent, by topic
static uint32_t *subscribers;    // their number, by topic
static uint64_t delivered, expected, acked, asked;
static char *payload;            // the filler after the mark
static uint64_t random_state = 88172645463325252u;

// Latency: buckets of 1/64 of a power of two, in nanoseconds.
static uint64_t histogram[64 * 64];
static uint64_t worst;
static double rate_start;
static bool single;               // each topic has one subscriber, which its number determines
static bool echoing;              // pairs keep their messages in flight
static bool recovering;           // --mode recover
static char epoch[64];            // of the topic's history, from the newest answer that has one

static void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "loadgen: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double own_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Return the processor time of a process in seconds, including threads that have ended.
static double cpu_of(int pid) {
    clockid_t clock;
    struct timespec t;
    if (!pid) return 0;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) fail("the server (pid %d) is gone", pid);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double server_cpu(void) {
    double sum = 0;
    for (int i = 0; i < opt.processes; i++) sum += cpu_of(opt.pids[i]);
    return sum;
}

static uint64_t server_rss(void) {
    uint64_t sum = 0;
    for (int i = 0; i < opt.processes; i++) {
        char path[64];
        unsigned long pages = 0;
        snprintf(path, sizeof path, "/proc/%d/statm", opt.pids[i]);
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%*u %lu", &pages) != 1) fail("cannot read %s", path);
        fclose(file);
        sum += pages;
    }
    return sum * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint32_t pick(uint32_t below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

// --- sending ------------------------------------------------------------------------------------

static void watch(Conn *c) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLET | (c->out_size ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(Conn *c) {
    if (!c->out_size) return;
    ssize_t n = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
    if (n > 0) memmove(c->out, c->out + n, c->out_size -= n);
    bool waits = c->out_size > 0;
    if (waits != c->waits) c->waits = waits, watch(c);
}

static void queue(Conn *c, const void *data, size_t size) {
    if (c->out_size + size > c->out_room) {
        c->out_room = (c->out_size + size) * 2;
        c->out = realloc(c->out, c->out_room);
    }
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

// Queue a masked frame; the key is zero, so the payload does not change.
static void queue_frame(Conn *c, int opcode, const char *data, size_t size) {
    uint8_t head[14] = {0x80 | opcode};
    size_t length = 2;
    if (size < 126) {
        head[1] = 0x80 | size;
    } else if (size < 65536) {
        head[1] = 0x80 | 126, head[2] = size >> 8, head[3] = size, length = 4;
    } else {
        head[1] = 0x80 | 127, length = 10;
        for (int i = 0; i < 8; i++) head[2 + i] = (uint64_t)size >> (56 - 8 * i);
    }
    queue(c, head, length + 4);
    queue(c, data, size);
}

// Count a queued command, which must be answered once.
static void ask(Conn *c) {
    c->due++;
    asked++;
}

// Fields of Centrifugo's Command, and of its Reply, which hold a request or its result.
enum { COMMAND_CONNECT = 4, COMMAND_SUBSCRIBE, COMMAND_UNSUBSCRIBE, COMMAND_PUBLISH };
enum { REPLY_ID = 1, REPLY_ERROR, REPLY_PUSH = 4, REPLY_SUBSCRIBE = 6 };

// Queue a command of a kind: its size, its id and the request.
static void queue_request(Conn *c, int kind, const uint8_t *request, size_t size) {
    static uint8_t command[BUFFER], text[BUFFER];
    command[0] = 1 << 3, command[1] = 1;  // field 1, the id, is 1
    size = put_field(command + 2, kind, request, size) - command;
    uint8_t *at = put_number(text, size);
    memcpy(at, command, size);
    queue_frame(c, protocol->opcode, (const char *)text, at + size - text);
}

static uint8_t *put_channel(uint8_t *at, uint32_t topic) {
    char name[16];
    return put_field(at, 1, name, snprintf(name, sizeof name, "t%u", topic));
}

static void queue_protobuf_command(Conn *c, const char *name, uint32_t topic) {
    uint8_t request[200], *at = put_channel(request, topic);
    if (name == protocol->recover) {
        *at++ = 3 << 3, *at++ = true;  // field 3, recover
        at = put_field(at, 6, epoch, strlen(epoch));
    }
    queue_request(c, name == protocol->unsubscribe ? COMMAND_UNSUBSCRIBE : COMMAND_SUBSCRIBE, request, at - request);
}

static void queue_protobuf_publish(Conn *c, uint32_t topic, const char *data, size_t size) {
    static uint8_t request[BUFFER];
    queue_request(c, COMMAND_PUBLISH, request, put_field(put_channel(request, topic), 2, data, size) - request);
}

// Queue a command on a topic: protocol->subscribe, unsubscribe or recover.
static void queue_command(Conn *c, const char *format, uint32_t topic) {
    char text[200];
    if (opt.protocol == PROTOBUF) queue_protobuf_command(c, format, topic);
    else queue_frame(c, protocol->opcode, text, snprintf(text, sizeof text, format, topic, epoch));
    ask(c);
}

static void queue_publish(Conn *c, uint32_t topic) {
    static char text[BUFFER];
    int message = strlen("{\"id\":\"m\",\"payload\":\"\"}") + opt.payload;
    const char *format = c->http ? protocol->post : protocol->publish;
    int size = snprintf(text, sizeof text, format, topic, ++sent_seq[topic], payload, message);
    if (c->http) {
        char head[200];
        queue(c, head, snprintf(head, sizeof head,
                                "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                                "Content-Length: %d\r\n\r\n", protocol->post_path, size));
        queue(c, text, size);
    } else if (opt.protocol == PROTOBUF) {
        queue_protobuf_publish(c, topic, text, size);
    } else {
        queue_frame(c, protocol->opcode, text, size);
    }
    expected += subscribers[topic];
    if (opt.protocol != NATS) ask(c);
}

// --- receiving ----------------------------------------------------------------------------------

static uint32_t *expected_of(uint32_t index, uint32_t topic) {
    // With one subscriber for each topic, the topic determines it.
    return &next_seq[single ? topic : (uint64_t)index * opt.topics + topic];
}

static void record(uint32_t seq) {
    double took = (now() - (rate_start + (seq - 1) / opt.rate)) * 1e9;
    uint64_t ns = took < 64 ? 64 : (uint64_t)took;
    int power = 63 - __builtin_clzll(ns);
    histogram[power * 64 + ((ns >> (power - 6)) & 63)]++;
    if (ns > worst) worst = ns;
}

static uint32_t rate_seq(uint32_t topic, uint32_t seq);
static void on_delivery(Conn *c);

static void answered(Conn *c) {
    if (!c->due) fail("an answer to nothing that was asked");
    c->due--;
    acked++;
}

static void reply(Conn *c, const char *text) {
    queue_frame(c, protocol->opcode, text, strlen(text)), flush(c);
}

// Handle a text of the protocol itself; return whether it is one.
static bool on_protocol(Conn *c, const uint8_t *data, size_t size) {
    if (opt.protocol == SOCKETIO && size == 1 && *data == '2') reply(c, "3");
    else if (opt.protocol == SOCKETIO && *data == '0') ask(c), reply(c, "40");
    else if (opt.protocol == SOCKETIO && size > 2 && !memcmp(data, "40", 2)) answered(c);
    else if (opt.protocol == CENTRIFUGO && size == 2) reply(c, "{}");
    else if (opt.protocol == NATS && size == 4 && !memcmp(data, "PING", 4)) reply(c, "PONG\r\n");
    else if (opt.protocol == NATS && size > 5 && !memcmp(data, "INFO ", 5))
        ask(c), reply(c, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
    else return false;
    return true;
}

static void keep_epoch(const uint8_t *data, size_t size) {
    const uint8_t *at = memmem(data, size, "\"epoch\":\"", 9), *end = data + size;
    const uint8_t *quote = at ? memchr(at + 9, '"', end - at - 9) : NULL;
    if (quote) snprintf(epoch, sizeof epoch, "%.*s", (int)(quote - at - 9), at + 9);
}

// Handle a text that is no event: an answer, or one of the protocol.
static void on_answer(Conn *c, const uint8_t *data, size_t size) {
    if (on_protocol(c, data, size)) return;
    if (memmem(data, size, protocol->refusal, strlen(protocol->refusal)))
        fail("the server refused: %.*s", (int)size, data);
    if (!memmem(data, size, protocol->answer, strlen(protocol->answer)))
        fail("neither an event nor an answer: %.*s", (int)size, data);
    if (recovering) keep_epoch(data, size);
    answered(c);
}

// Return the number in a fixed count of digits.
static uint32_t digits(const uint8_t *at, int count) {
    uint32_t number = 0, strange = 0;
    for (int i = 0; i < count; i++) strange |= (uint32_t)(at[i] - '0') > 9, number = number * 10 + at[i] - '0';
    if (strange) fail("a mark that nobody has sent: %.*s", count, at);
    return number;
}

// Check the bytes before an event's payload, which have its type and topic. They are the same for all
// events of a topic, so most are compared with the last ones that were parsed.
static void check_head(const uint8_t *head, size_t size, uint32_t topic) {
    static uint8_t last[EDGE];
    static size_t last_size;
    static uint32_t last_topic;
    if (size == last_size && topic == last_topic && !memcmp(head, last, size)) return;
    char name[32];
    if (!memmem(head, size, protocol->kind, strlen(protocol->kind))) fail("not an event: %.*s", (int)size, head);
    if (!memmem(head, size, name, snprintf(name, sizeof name, protocol->topic, topic)))
        fail("an event of topic t%u under another name: %.*s", topic, (int)size, head);
    if (size > sizeof last) return;
    memcpy(last, head, last_size = size);
    last_topic = topic;
}

// Check the filler after the mark, its length, and the end of the text.
static void check_payload(const uint8_t *filler, const uint8_t *end) {
    size_t size = opt.payload - MARK, edge = size < EDGE ? size : EDGE;
    if (filler + size >= end || filler[size] != '"') fail("a payload that is not of %u bytes", opt.payload);
    if (memcmp(filler, payload, edge) || (size > edge && memcmp(filler + size - edge, payload, edge)))
        fail("a payload of other bytes than were sent");
    if (end[-1] == '\n') end--;  // Go's encoder ends a text with one
    if (end[-1] != protocol->end) fail("a cut event");
}

// Check the number and payload of an event, from its mark on; return its topic.
static uint32_t on_mark(Conn *c, const uint8_t *mark, const uint8_t *end) {
    if (mark + MARK > end || mark[6] != ':' || mark[15] != '#') fail("a cut event");
    uint32_t topic = digits(mark + 1, 5), seq = digits(mark + 7, 8);
    if (topic >= opt.topics) fail("an event of topic %u, which is none", topic);
    uint32_t *next = expected_of(c->index, topic);
    if (c->publisher || *next == UINT32_MAX || (single && topic / opt.per != c->index))
        fail("an event of topic t%u to somebody who is not subscribed to it", topic);
    if (seq != *next + 1) fail("event %u of topic t%u came where %u was due", seq, topic, *next + 1);
    check_payload(mark + MARK, end);
    *next = seq;
    delivered++;
    if (opt.rate) record(rate_seq(topic, seq));
    return topic;
}

// Handle Centrifugo's answer to a recovery, which contains the events.
static void on_recovered(Conn *c, const uint8_t *data, const uint8_t *mark, const uint8_t *end) {
    if (!memmem(data, end - data, "\"recovered\":true", 16)) fail("not recovered: %.*s", (int)(mark - data), data);
    for (; mark; mark = memchr(mark + opt.payload, '#', end - mark - opt.payload)) on_mark(c, mark, end);
    answered(c);
}

static void on_text(Conn *c, const uint8_t *data, size_t size) {
    const uint8_t *mark = memchr(data, '#', size), *end = data + size;
    if (!mark) {
        on_answer(c, data, size);
    } else if (opt.protocol == CENTRIFUGO && !memcmp(data, "{\"id\":", 6)) {
        on_recovered(c, data, mark, end);
    } else {
        check_head(data, mark - data, on_mark(c, mark, end));
        on_delivery(c);
    }
}

// Centrifugo joins messages by newlines.
static void on_lines(Conn *c, const uint8_t *data, size_t size) {
    const uint8_t *end = data + size, *line = data;
    while (line < end) {
        const uint8_t *next = memchr(line, '\n', end - line);
        if (!next) next = end;
        if (next > line) on_text(c, line, next - line);
        line = next + 1;
    }
}

// Handle one line of NATS, with the message that follows it; return its size, or 0 if it is incomplete.
static size_t take_line(Conn *c, const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\r\n", 2);
    if (!end) return 0;
    size_t line = end + 2 - data;
    if (line < 6 || memcmp(data, "MSG ", 4)) {
        on_answer(c, data, line - 2);
        return line;
    }
    const uint8_t *length = memrchr(data, ' ', line);
    size_t whole = line + strtoul((const char *)length, NULL, 10);
    if (size < whole + 2) return 0;
    if (memcmp(data + whole, "\r\n", 2)) fail("a message that is not of the size in its line: %.*s", (int)line, data);
    on_text(c, data, whole);
    return whole + 2;
}

// NATS sends a stream: a frame may end anywhere in a line or message.
static void on_stream(Conn *c, const uint8_t *data, size_t size) {
    if (c->rest_size) {
        c->rest = realloc(c->rest, c->rest_size + size);
        memcpy(c->rest + c->rest_size, data, size);
        data = c->rest, size += c->rest_size;
    }
    size_t at = 0, took;
    while (at < size && (took = take_line(c, data + at, size - at))) at += took;
    c->rest_size = size - at;
    if (data == c->rest) {
        memmove(c->rest, data + at, c->rest_size);
    } else if (c->rest_size) {
        c->rest = realloc(c->rest, c->rest_size);
        memcpy(c->rest, data + at, c->rest_size);
    }
}

// Handle a Publication; return its topic.
static uint32_t on_publication(Conn *c, Field publication) {
    const uint8_t *at = publication.data, *end = at + publication.size, *mark;
    Field f;
    while (take_field(&at, end, &f))
        if (f.field == 4 && (mark = memchr(f.data, '#', f.size))) return on_mark(c, mark, f.data + f.size);
    fail("an event without its data");
    return 0;
}

static void on_push(Conn *c, Field push) {
    const uint8_t *at = push.data, *end = at + push.size;
    Field f, channel = {0};
    char name[16];
    while (take_field(&at, end, &f)) {
        if (f.field == 2) channel = f;
        if (f.field != 4) continue;
        uint32_t topic = on_publication(c, f);
        size_t size = snprintf(name, sizeof name, "t%u", topic);
        if (channel.size != size || memcmp(channel.data, name, size))
            fail("an event of topic %s under another name", name);
        on_delivery(c);
        return;
    }
    fail("not an event");
}

static void on_subscribed(Conn *c, Field result) {
    const uint8_t *at = result.data, *end = at + result.size;
    bool recovered = false;
    uint64_t events = delivered;
    Field f;
    while (take_field(&at, end, &f)) {
        if (f.field == 6) snprintf(epoch, sizeof epoch, "%.*s", (int)f.size, f.data);
        if (f.field == 7) on_publication(c, f);
        if (f.field == 8) recovered = f.size;
    }
    if (delivered > events && !recovered) fail("not recovered");
}

static void on_replies(Conn *c, const uint8_t *data, size_t size) {
    for (const uint8_t *at = data, *end = data + size; at < end;) {
        size_t length = take_number(&at, end);
        if (length > (size_t)(end - at)) fail("a cut reply");
        const uint8_t *next = at + length;
        Field f = {0};
        if (!length) queue_frame(c, protocol->opcode, "", 1), flush(c);  // a ping, and its pong: a size of 0
        while (take_field(&at, next, &f)) {
            if (f.field == REPLY_ERROR) fail("the server refused: %.*s", (int)f.size, f.data);
            if (f.field == REPLY_PUSH) on_push(c, f);
            if (f.field == REPLY_SUBSCRIBE) on_subscribed(c, f);
            if (f.field == REPLY_ID) answered(c);
        }
    }
}

static void on_message(Conn *c, const uint8_t *data, size_t size) {
    if (opt.protocol == NATS) on_stream(c, data, size);
    else if (opt.protocol == PROTOBUF) on_replies(c, data, size);
    else if (opt.protocol == CENTRIFUGO) on_lines(c, data, size);
    else if (size) on_text(c, data, size);
}

// Add a fragment to a message; the text is checked after the last one.
static void on_fragment(Conn *c, bool last, const uint8_t *data, size_t size) {
    c->part = realloc(c->part, c->part_size + size + 1);
    memcpy(c->part + c->part_size, data, size);
    c->part_size += size;
    if (!last) return;
    on_message(c, c->part, c->part_size);
    free(c->part);
    c->part = NULL, c->part_size = 0;
}

static void on_frame(Conn *c, uint8_t first, const uint8_t *data, size_t size) {
    bool last = first & 0x80;
    int opcode = first & 0x0f;
    if (first & 0x70) fail("a frame with bits that nobody has agreed on");
    if (opcode == protocol->opcode && c->part) fail("a message inside another one's fragments");
    if (opcode == 0 && !c->part) fail("a fragment of no message");
    if (opcode > 7 && (!last || size > 125)) fail("a control frame that is cut, or too long");
    if (opcode == protocol->opcode && last) on_message(c, data, size);
    else if (opcode == protocol->opcode || !opcode) on_fragment(c, last, data, size);
    else if (opcode == 9) queue_frame(c, 10, (const char *)data, size), flush(c);
    else if (opcode == 8) fail("the server closed with %d", size >= 2 ? data[0] << 8 | data[1] : 0);
    else fail("a frame of opcode %d, which nobody asked for", opcode);
}

// Handle one frame; return its size, or 0 if it is incomplete.
static size_t take_frame(Conn *c, const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    if (data[1] & 0x80) fail("a masked frame");
    size_t length = data[1], start = 2;
    if (length == 126) {
        if (size < 4) return 0;
        length = data[2] << 8 | data[3], start = 4;
    } else if (length == 127) {
        if (size < 10) return 0;
        length = 0, start = 10;
        for (int i = 2; i < 10; i++) length = length << 8 | data[i];
        if (length > BUFFER - start) fail("a frame of %zu bytes", length);
    }
    if (size < start + length) return 0;
    on_frame(c, data[0], data + start, length);
    return start + length;
}

// Handle one HTTP head (for REST with its body); return its size, or 0 if it is incomplete.
static size_t take_http(Conn *c, const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end + 4 - data;
    if (!c->http) {
        if (memcmp(data, "HTTP/1.1 101", 12)) fail("no upgrade: %.60s", data);
        if (!memmem(data, head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28)) fail("an upgrade without its proof");
        c->upgraded = true;
        upgraded++;
        if (opt.protocol == PROTOBUF) ask(c), queue_request(c, COMMAND_CONNECT, (const uint8_t *)"", 0), flush(c);
        if (opt.protocol == CENTRIFUGO) ask(c), reply(c, "{\"id\":1,\"connect\":{}}");
        return head;
    }
    if (memcmp(data, "HTTP/1.1 200", 12)) fail("REST: %.60s", data);
    char *field = strcasestr((const char *)data, "content-length:");
    size_t body = field && (uint8_t *)field < end ? strtoul(field + 15, NULL, 10) : 0;
    if (size < head + body) return 0;
    if (!memmem(data + head, body, protocol->posted, strlen(protocol->posted)))
        fail("REST: %.*s", (int)body, data + head);
    answered(c);
    if (echoing) queue_publish(c, c->index), flush(c);
    return head + body;
}

// Read once; return true if there may be more, since the buffer is full (epoll is edge-triggered).
static bool receive(Conn *c) {
    memcpy(buffer, c->in, c->in_size);
    size_t room = BUFFER - c->in_size;
    ssize_t n = recv(c->fd, buffer + c->in_size, room, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) fail("a connection was lost: %s", n ? strerror(errno) : "closed");
    size_t size = c->in_size + n, at = 0, took;
    buffer[size] = 0;
    while (at < size) {
        bool http = c->http || !c->upgraded;
        took = http ? take_http(c, buffer + at, size - at) : take_frame(c, buffer + at, size - at);
        if (!took) break;
        at += took;
    }
    c->in_size = size - at;
    if (c->in_size) {
        c->in = realloc(c->in, c->in_size);
        memcpy(c->in, buffer + at, c->in_size);
    }
    return (size_t)n == room;
}

// Handle the events of the sockets; wait for one for at most `timeout` seconds.
static void turn(double timeout) {
    static struct epoll_event events[EVENTS];
    struct timespec wait = {(time_t)timeout, (timeout - (time_t)timeout) * 1e9};
    int count = epoll_pwait2(epoll, events, EVENTS, &wait, NULL);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        Conn *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) flush(c);
        if (events[i].events & ~EPOLLOUT)
            while (receive(c)) continue;
        if (echoing && !c->publisher) flush(&conns[opt.conns + c->index]);
    }
}

// --- setting up ---------------------------------------------------------------------------------

static void dial(Conn *c) {
    int port = c->publisher ? opt.publish_port : opt.port;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (void *)&address, sizeof address)) fail("connect: %s", strerror(errno));
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
    if (c->http) return;
    char text[400];
    queue(c, text, snprintf(text, sizeof text,
                            "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                            protocol->path));
    flush(c);
}

static void await(uint64_t *what, uint64_t count, const char *name) {
    uint64_t last = *what;
    double end = now() + opt.patience;
    while (*what < count) {
        // While many deliveries are due, poll rarely and read much at once. A poll for every message
        // would cost this core more than the server's, and the server a wake-up for each send().
        if (count - *what > 64) nanosleep(&(struct timespec){0, NAP}, NULL);
        turn(0.1);
        if (*what != last) last = *what, end = now() + opt.patience;
        if (now() > end) fail("%s: %lu of %lu came", name, (unsigned long)*what, (unsigned long)count);
    }
}

static void connect_all(uint32_t first, uint32_t count) {
    uint64_t target = acked + count;  // all protocols but ours have a second handshake
    for (uint32_t i = first; i < first + count; i++) {
        dial(&conns[i]);
        double end = now() + 30;
        // At most STORM handshakes at a time: no accept queue overflows.
        while (!conns[i].http && i - first + 1 - (upgraded - first) >= STORM) {
            turn(0.1);
            if (now() > end) fail("the server does not answer handshakes");
        }
    }
    double end = now() + 30;
    while (count && !conns[first].http && upgraded < first + count) {
        turn(0.1);
        if (now() > end) fail("the server does not answer handshakes");
    }
    if (opt.protocol != JSON && count && !conns[first].http) await(&acked, target, "the protocol's own handshakes");
}

static void subscribe_all(uint32_t first, uint32_t count) {
    uint32_t per = opt.topics == 1 ? 1 : opt.per;
    for (uint32_t i = first; i < first + count; i++) {
        uint64_t target = acked + per;
        for (uint32_t k = 0; k < per; k++) {
            uint32_t topic = single ? i * per + k : opt.topics == 1 ? 0 : (i + k * (opt.topics / per)) % opt.topics;
            subscribers[topic]++;
            *expected_of(i, topic) = 0;
            queue_command(&conns[i], protocol->subscribe, topic);
            if (k % 64 == 63 || k == per - 1) {
                flush(&conns[i]);
                await(&acked, target - per + k + 1, "acks of subscribe");
            }
        }
    }
}

// --- measurements -------------------------------------------------------------------------------

typedef struct {
    double start, own, server, publisher, redis;
    uint64_t delivered;
} Mark;

static Mark mark(void) {
    return (Mark){now(), own_cpu(), server_cpu(), cpu_of(opt.publish_pid), cpu_of(opt.redis_pid), delivered};
}

static void report(Mark m, uint64_t units, const char *extra) {
    if (!units) fail("nothing was delivered");
    double own = own_cpu() - m.own, server = server_cpu() - m.server, seconds = now() - m.start;
    double publisher = cpu_of(opt.publish_pid) - m.publisher, redis = cpu_of(opt.redis_pid) - m.redis;
    printf("{\"mode\":\"%s\",\"units\":%lu,\"seconds\":%.4f,\"per_second\":%.1f,"
           "\"server_us\":%.4f,\"generator_us\":%.4f,\"server_busy\":%.3f,\"generator_busy\":%.3f,"
           "\"publisher_us\":%.4f,\"redis_us\":%.4f,\"rss\":%lu%s}\n",
           opt.mode, (unsigned long)units, seconds, units / seconds, server / units * 1e6,
           own / units * 1e6, server / seconds, own / seconds, publisher / units * 1e6,
           redis / units * 1e6, (unsigned long)server_rss(), extra);
}

static Conn *publisher;

static uint32_t rate_seq(uint32_t topic, uint32_t seq) {
    return (seq - 1) * opt.topics + topic + 1;  // topics take turns
}

static void run_burst(double seconds) {
    double end = now() + seconds;
    while (now() < end) {
        for (uint32_t i = 0; i < opt.window; i++)
            queue_publish(publisher, opt.topics == 1 ? 0 : pick(opt.topics));
        flush(publisher);
        await(&delivered, expected, "events");
    }
}

static void run_rate(double seconds) {
    uint64_t count = opt.rate * seconds;
    rate_start = now();
    for (uint64_t sent = 0; sent < count; sent++) {
        double at = rate_start + sent / opt.rate, left;
        while ((left = at - now()) > 0) turn(left);
        queue_publish(publisher, sent % opt.topics);
        flush(publisher);
        turn(0);
    }
    await(&delivered, expected, "events");
}

// Each delivery, or over REST each response, is followed by the next message of its pair. All messages
// of one read are answered by one send.
static void on_delivery(Conn *c) {
    if (!echoing || conns[opt.conns + c->index].http) return;
    queue_publish(&conns[opt.conns + c->index], c->index);
}

static void start_echo(void) {
    echoing = true;
    for (uint32_t i = 0; i < opt.conns; i++) {
        for (uint32_t k = 0; k < opt.window; k++) queue_publish(&conns[opt.conns + i], i);
        flush(&conns[opt.conns + i]);
    }
}

static void measure_latency(Mark m) {
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) total += histogram[i];
    double at[] = {0.5, 0.99, 0.999}, value[3] = {0};
    int next = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram && next < 3; i++) {
        seen += histogram[i];
        while (next < 3 && seen >= at[next] * total) {
            int power = i / 64;
            double most = ((uint64_t)1 << power) * (1 + (i % 64 + 1) / 64.0);  // the upper bound of the bucket
            value[next++] = (most < worst ? most : worst) / 1e6;
        }
    }
    char extra[200];
    snprintf(extra, sizeof extra, ",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f",
             value[0], value[1], value[2], worst / 1e6);
    report(m, delivered - m.delivered, extra);
}

// All subscribers but the first, which keeps the topic, recover the same events again and again.
static void run_recover(double seconds) {
    double end = now() + seconds;
    while (now() < end) {
        for (uint32_t i = 1; i < opt.conns; i++) {
            *expected_of(i, 0) = 0;
            queue_command(&conns[i], protocol->recover, 0), flush(&conns[i]);
        }
        expected += (opt.conns - 1) * opt.window;
        await(&delivered, expected, "events of recoveries");
        await(&acked, asked, "answers");
        for (uint32_t i = 1; i < opt.conns; i++)
            queue_command(&conns[i], protocol->unsubscribe, 0), flush(&conns[i]);
        await(&acked, asked, "answers");
        for (uint32_t i = 1; i < opt.conns; i++) *expected_of(i, 0) = UINT32_MAX;
    }
}

static void run_echo(double seconds) {
    double end = now() + seconds;
    while (now() < end) turn(0.1);
}

static void measure_storm(void) {
    connect_all(0, WARM);
    Mark m = mark();
    connect_all(WARM, opt.conns - WARM);
    report(m, opt.conns - WARM, "");
}

// The first WARM connections do not count, since a server also grows when it is first used.
static void measure_idle(void) {
    connect_all(0, WARM);
    subscribe_all(0, WARM);
    uint64_t before = server_rss();
    connect_all(WARM, opt.conns - WARM);
    subscribe_all(WARM, opt.conns - WARM);
    for (double end = now() + opt.warm_up; now() < end;) turn(0.1);  // let the server finish its work for the connects
    uint64_t after = server_rss();
    Mark m = mark();
    for (double end = now() + opt.seconds; now() < end;) turn(0.1);
    char extra[100];
    double each = ((double)after - before) / (opt.conns - WARM);
    snprintf(extra, sizeof extra, ",\"rss_per_connection\":%.1f", each);
    report(m, opt.conns, extra);
}

// After the measurement: check that no message is missing, and that none was unexpected.
static void check_the_rest(void) {
    echoing = false;
    await(&delivered, expected, "events");
    await(&acked, asked, "answers");
    for (double end = now() + 0.1; now() < end;) turn(0.05);
    if (delivered != expected)
        fail("%lu events came, %lu were due", (unsigned long)delivered, (unsigned long)expected);
}

static int protocol_of(const char *name) {
    for (int i = JSON; i <= NATS; i++)
        if (!strcmp(name, protocols[i].name)) return i;
    fail("no such protocol: %s", name);
    return 0;
}

static void processes(const char *value) {
    for (char *end; *value; value = *end ? end + 1 : end) {
        if (opt.processes == PROCESSES) fail("at most %d processes", PROCESSES);
        opt.pids[opt.processes++] = strtol(value, &end, 10);
        if (end == value || (*end && *end != ',')) fail("--pid: no process: %s", value);
    }
}

static void options(int count, char **words) {
    for (int i = 1; i < count; i++) {
        const char *name = words[i];
        const char *value = i + 1 < count ? words[++i] : "";
        if (!strcmp(name, "--port")) opt.port = atoi(value);
        else if (!strcmp(name, "--pid")) processes(value);
        else if (!strcmp(name, "--publish-port")) opt.publish_port = atoi(value);
        else if (!strcmp(name, "--publish-pid")) opt.publish_pid = atoi(value);
        else if (!strcmp(name, "--redis-pid")) opt.redis_pid = atoi(value);
        else if (!strcmp(name, "--protocol")) opt.protocol = protocol_of(value);
        else if (!strcmp(name, "--mode")) opt.mode = value;
        else if (!strcmp(name, "--conns")) opt.conns = atoi(value);
        else if (!strcmp(name, "--topics")) opt.topics = atoi(value);
        else if (!strcmp(name, "--per")) opt.per = atoi(value);
        else if (!strcmp(name, "--window")) opt.window = atoi(value);
        else if (!strcmp(name, "--payload")) opt.payload = atoi(value);
        else if (!strcmp(name, "--rate")) opt.rate = atof(value);
        else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
        else if (!strcmp(name, "--warm-up")) opt.warm_up = atof(value);
        else if (!strcmp(name, "--patience")) opt.patience = atof(value);
        else fail("no such option: %s", name);
    }
    if (!opt.port || !opt.processes || !opt.mode) fail("--port, --pid and --mode are needed");
    if (!opt.publish_port) opt.publish_port = opt.port;
    protocol = &protocols[opt.protocol];
    static const char *modes[] = {"burst", "rate", "echo", "rest", "storm", "idle", "recover"};
    size_t known = 0;
    while (known < sizeof modes / sizeof *modes && strcmp(opt.mode, modes[known])) known++;
    if (known == sizeof modes / sizeof *modes) fail("no such mode: %s", opt.mode);
    if (!strcmp(opt.mode, "rate") != (opt.rate > 0)) fail("--mode rate and --rate go together");
    if (!strcmp(opt.mode, "storm") || !strcmp(opt.mode, "idle")) {
        if (opt.conns <= WARM) fail("--conns is at least %d in this mode", WARM + 1);
    }
    recovering = !strcmp(opt.mode, "recover");
    if (recovering && (opt.conns < 2 || opt.topics > 1)) fail("--conns is at least 2 and --topics 1 in this mode");
    if (recovering && !protocol->recover) fail("%s has no recovery", protocol->name);
    if (!strcmp(opt.mode, "rest") && !protocol->post) fail("%s has no publishes by REST", protocol->name);
    if (opt.topics < 1 || opt.topics > TOPICS) fail("--topics is 1 to %d", TOPICS);
    if (opt.payload < MARK || opt.payload > 65000) fail("--payload is %d to 65000", MARK);
}

int main(int count, char **words) {
    options(count, words);
    prctl(PR_SET_TIMERSLACK, 1);
    bool pairs = !strcmp(opt.mode, "echo") || !strcmp(opt.mode, "rest");
    if (pairs) opt.topics = opt.conns, opt.per = 1;
    uint32_t publishers = pairs ? opt.conns : 1;
    conn_count = opt.conns + publishers;
    struct rlimit files = {conn_count + 64, conn_count + 64};
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    if (old.rlim_cur < files.rlim_cur && setrlimit(RLIMIT_NOFILE, &files))
        fail("needs %u open files: raise ulimit -n", conn_count + 64);

    epoll = epoll_create1(0);
    buffer = malloc(BUFFER + 1);
    conns = calloc(conn_count, sizeof *conns);
    sent_seq = calloc(opt.topics, sizeof *sent_seq);
    subscribers = calloc(opt.topics, sizeof *subscribers);
    single = opt.topics == opt.conns * opt.per;
    size_t seqs = single ? opt.topics : (size_t)opt.conns * opt.topics;
    next_seq = malloc(seqs * sizeof *next_seq);
    memset(next_seq, 0xff, seqs * sizeof *next_seq);  // no event is expected without a subscription
    payload = malloc(opt.payload - MARK + 1);
    memset(payload, 'x', opt.payload - MARK);
    payload[opt.payload - MARK] = 0;
    for (uint32_t i = 0; i < conn_count; i++) {
        conns[i].publisher = i >= opt.conns;
        conns[i].index = conns[i].publisher ? i - opt.conns : i;
        conns[i].http = conns[i].publisher && !strcmp(opt.mode, "rest");
    }

    if (!strcmp(opt.mode, "storm")) {
        measure_storm();
        return 0;
    }
    if (!strcmp(opt.mode, "idle")) {
        measure_idle();
        check_the_rest();
        return 0;
    }
    connect_all(0, opt.conns);
    subscribe_all(0, recovering ? 1 : opt.conns);
    connect_all(opt.conns, publishers);
    publisher = &conns[opt.conns];
    if (recovering) {
        for (uint32_t i = 0; i < opt.window; i++) queue_publish(publisher, 0);
        flush(publisher);
        await(&delivered, expected, "events");
        run_recover(opt.warm_up);
        Mark m = mark();
        run_recover(opt.seconds);
        report(m, delivered - m.delivered, "");
    } else if (pairs) {
        start_echo();
        run_echo(opt.warm_up);
        Mark m = mark();
        run_echo(opt.seconds);
        report(m, delivered - m.delivered, "");
    } else if (opt.rate) {
        run_rate(opt.warm_up);
        memset(histogram, 0, sizeof histogram);
        memset(sent_seq, 0, opt.topics * sizeof *sent_seq);
        for (size_t i = 0; i < seqs; i++)
            if (next_seq[i] != UINT32_MAX) next_seq[i] = 0;
        worst = 0;
        Mark m = mark();
        run_rate(opt.seconds);
        measure_latency(m);
    } else {
        run_burst(opt.warm_up);
        Mark m = mark();
        run_burst(opt.seconds);
        report(m, delivered - m.delivered, "");
    }
    check_the_rest();
    return 0;
}
