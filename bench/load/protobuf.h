// Fields of Protobuf messages, for the load generator: numbers, and bytes with their size.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static void fail(const char *format, ...);  // of the load generator

// Append a number; return the end.
static uint8_t *put_number(uint8_t *at, size_t number) {
    for (; number > 127; number >>= 7) *at++ = number | 0x80;
    *at++ = number;
    return at;
}

// Append a field of bytes; return the end.
static uint8_t *put_field(uint8_t *at, int field, const void *data, size_t size) {
    at = put_number(put_number(at, field << 3 | 2), size);
    memcpy(at, data, size);
    return at + size;
}

// Take a number.
static size_t take_number(const uint8_t **at, const uint8_t *end) {
    size_t number = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        number |= (size_t)(byte & 0x7f) << shift;
        if (byte < 128) return number;
    }
    fail("a cut number");
    return 0;
}

typedef struct {
    int field;
    size_t size;         // of the bytes, or the value of a number
    const uint8_t *data; // NULL for a number
} Field;

// Take the next field of a message; return false at its end.
static bool take_field(const uint8_t **at, const uint8_t *end, Field *f) {
    if (*at == end) return false;
    size_t tag = take_number(at, end);
    *f = (Field){tag >> 3, take_number(at, end), NULL};
    if ((tag & 7) == 0) return true;
    if ((tag & 7) != 2 || f->size > (size_t)(end - *at)) fail("a field of type %d, or a cut one", (int)(tag & 7));
    f->data = *at;
    *at += f->size;
    return true;
}
