// The floor: a server that only wraps each message and calls send() for each subscriber.
//
// It implements just enough of the protocol to be measured: an upgrade without the accept value, commands
// recognised by their first bytes, and a list of topics. With --join, the events of one read are sent to
// each subscriber as one buffer. It has no limits, no backpressure and no errors: do not use it as a server.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, TOPICS = 1 << 17, EVENTS = 1024 };

typedef struct {
    int *fds;
    uint32_t count, room;
    uint8_t *batch;     // with --join: the frames of this read
    size_t size, capacity;
} Topic;

typedef struct {
    int fd;
    bool upgraded;
    uint8_t *in;
    size_t in_size;
} Conn;

static Topic topics[TOPICS];
static uint32_t dirty[TOPICS], dirty_count;
static bool join;
static uint8_t buffer[BUFFER + 1], replies[BUFFER];
static size_t replies_size;

static void send_all(int fd, const void *data, size_t size) {
    for (const uint8_t *at = data; size;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n < 0) return;
        at += n, size -= n;
    }
}

static size_t frame(uint8_t *out, const void *data, size_t size) {
    size_t head = 2;
    out[0] = 0x81;
    if (size < 126) out[1] = size;
    else if (size < 65536) out[1] = 126, out[2] = size >> 8, out[3] = size, head = 4;
    else {
        out[1] = 127, head = 10;
        for (int i = 0; i < 8; i++) out[2 + i] = (uint64_t)size >> (56 - 8 * i);
    }
    memcpy(out + head, data, size);
    return head + size;
}

static void publish(Topic *topic, const char *message, size_t size) {
    static uint8_t event[BUFFER], framed[BUFFER];
    const char *name = memmem(message, size, "\"topic\":", 8);
    int length = snprintf((char *)event, BUFFER, "{\"type\":\"event\",%.*s,\"ts\":\"2026-01-01T00:00:00Z\"}",
                          (int)(message + size - 1 - name), name);
    size = frame(framed, event, length);
    if (!join) {
        for (uint32_t i = 0; i < topic->count; i++) send_all(topic->fds[i], framed, size);
        return;
    }
    if (!topic->size) dirty[dirty_count++] = topic - topics;
    if (topic->size + size > topic->capacity)
        topic->batch = realloc(topic->batch, topic->capacity = (topic->size + size) * 2);
    memcpy(topic->batch + topic->size, framed, size);
    topic->size += size;
}

static void flush(void) {
    for (uint32_t i = 0; i < dirty_count; i++) {
        Topic *topic = &topics[dirty[i]];
        for (uint32_t k = 0; k < topic->count; k++) send_all(topic->fds[k], topic->batch, topic->size);
        topic->size = 0;
    }
    dirty_count = 0;
}

static void handle(Conn *c, char *text, size_t size) {
    char *name = memmem(text, size, "\"topic\":\"t", 10);
    Topic *topic = &topics[name ? strtoul(name + 10, NULL, 10) % TOPICS : 0];
    bool subscribe = memmem(text, size < 40 ? size : 40, "\"subscribe\"", 11);
    if (subscribe) {
        if (topic->count == topic->room)
            topic->fds = realloc(topic->fds, (topic->room = topic->room * 2 + 1) * sizeof(int));
        topic->fds[topic->count++] = c->fd;
    } else {
        publish(topic, text, size);
    }
    static const char ack[] = "{\"type\":\"ack\",\"status\":\"ok\",\"ts\":\"2026-01-01T00:00:00Z\"}";
    if (replies_size + sizeof ack + 4 > sizeof replies) send_all(c->fd, replies, replies_size), replies_size = 0;
    replies_size += frame(replies + replies_size, ack, sizeof ack - 1);
}

static size_t take(Conn *c, uint8_t *data, size_t size) {
    if (!c->upgraded) {
        uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) return 0;
        static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        send_all(c->fd, answer, sizeof answer - 1);
        c->upgraded = true;
        return end + 4 - data;
    }
    if (size < 6) return 0;
    size_t length = data[1] & 0x7f, at = 2;
    if (length == 126) length = data[2] << 8 | data[3], at = 4;
    else if (length == 127) {
        if (size < 14) return 0;
        length = 0, at = 10;
        for (int i = 2; i < 10; i++) length = length << 8 | data[i];
    }
    uint8_t *mask = data + at;
    at += 4;
    if (size < at + length) return 0;
    for (size_t i = 0; i < length; i++) data[at + i] ^= mask[i & 3];
    if ((data[0] & 15) == 1) handle(c, (char *)data + at, length);
    return at + length;
}

static bool receive(Conn *c) {
    memcpy(buffer, c->in, c->in_size);
    ssize_t n = recv(c->fd, buffer + c->in_size, BUFFER - c->in_size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) return false;
    size_t size = c->in_size + n, at = 0, took;
    while (at < size && (took = take(c, buffer + at, size - at))) at += took;
    c->in_size = size - at;
    c->in = realloc(c->in, c->in_size + 1);
    memcpy(c->in, buffer + at, c->in_size);
    if (replies_size) send_all(c->fd, replies, replies_size), replies_size = 0;
    if (dirty_count) flush();
    return true;
}

static void forget(int fd) {
    for (uint32_t t = 0; t < TOPICS; t++)
        for (uint32_t i = 0; i < topics[t].count; i++)
            if (topics[t].fds[i] == fd) topics[t].fds[i--] = topics[t].fds[--topics[t].count];
}

int main(int count, char **words) {
    join = count > 1 && !strcmp(words[1], "--join");
    int port = atoi(getenv("PORT") ? getenv("PORT") : "8080"), on = 1;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            Conn *c = events[i].data.ptr;
            if (c) {
                if (!receive(c)) forget(c->fd), close(c->fd), free(c->in), free(c);
                continue;
            }
            for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                Conn *fresh = calloc(1, sizeof *fresh);
                fresh->fd = fd;
                struct epoll_event made = {.events = EPOLLIN, .data.ptr = fresh};
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &made);
            }
        }
    }
}
