/* The header of an HDU; its twin is `broker.fits_header`. */

#include "cards.h"

#define CARD 80
#define BLOCK 2880
#define LONGEST_INTEGER 18

static const char real_keys[REALS][KEY + 1] = {"CRPIX1  ", "CRPIX2  ", "PC1_1   ", "PC1_2   ",
                                               "PC2_1   ", "PC2_2   ", "CDELT1  ", "CDELT2  "};
static const char integer_keys[INTEGERS][KEY + 1] = {"BITPIX  ", "NAXIS   ", "NAXIS1  ", "NAXIS2  ", "PCOUNT  ", "GCOUNT  "};

/* The value of a card, without blanks and comment. */
typedef struct {
    const char *text;
    int size;
} Value;

static Value value_of(const char *card)
{
    const char *from = card + KEY + 1, *end = memchr(from, '/', CARD - KEY - 1);
    end = end ? end : card + CARD;
    while (from < end && *from == ' ')
        from++;
    while (end > from && end[-1] == ' ')
        end--;
    return (Value){from, (int)(end - from)};
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int integer(Value value, int64_t *number)
{
    int at = 0, negative = 0;
    if (value.size && (value.text[0] == '-' || value.text[0] == '+'))
        negative = value.text[at++] == '-';
    if (at == value.size || value.size - at > LONGEST_INTEGER)
        return 0;
    for (*number = 0; at < value.size; at++) {
        if (!is_digit(value.text[at]))
            return 0;
        *number = 10 * *number + (value.text[at] - '0');
    }
    if (negative)
        *number = -*number;
    return 1;
}

static int real(Value value, double *number)
{
    char text[CARD] = {0}, *end;
    int at = 0, digits = 0;
    memcpy(text, value.text, value.size);
    at += text[at] == '-' || text[at] == '+';
    for (; is_digit(text[at]); at++)
        digits++;
    for (at += text[at] == '.'; is_digit(text[at]); at++)
        digits++;
    if (!digits)
        return 0;
    if (text[at] == 'E') {
        at++;
        at += text[at] == '-' || text[at] == '+';
        if (!is_digit(text[at]))
            return 0;
        while (is_digit(text[at]))
            at++;
    }
    if (at != value.size)
        return 0;
    *number = PyOS_string_to_double(text, &end, NULL);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return isfinite(*number);
}

/* Text between the first two quotes of a card, without blanks behind; 0 where it is longer than a name here. */
static int name(const char *card, char *found)
{
    const char *from = memchr(card + KEY + 1, '\'', CARD - KEY - 1);
    const char *end = from ? memchr(from + 1, '\'', card + CARD - from - 1) : NULL;
    if (end == NULL)
        return 0;
    for (from++; end > from && end[-1] == ' ';)
        end--;
    if (end - from > KEY)
        return 0;
    memset(found, 0, KEY + 1);
    memcpy(found, from, end - from);
    return 1;
}

static int number_of(const char *card, const char (*keys)[KEY + 1], int count)
{
    for (int i = 0; i < count; i++)
        if (memcmp(card, keys[i], KEY) == 0)
            return i;
    return -1;
}

/* Cards that are read otherwise than here, or not at all: what has them is left to the twin. */
static int is_unusual(const char *card)
{
    return memcmp(card, "NAXIS", 5) == 0 || memcmp(card, "CD1", 3) == 0 || memcmp(card, "CD2", 3) == 0 ||
           memcmp(card, "BSCALE  ", KEY) == 0 || memcmp(card, "BZERO   ", KEY) == 0;
}

static int first_card(const char *card, Hdu *hdu)
{
    char kind[KEY + 1];
    if (card[KEY] != '=')
        return 0;
    if (memcmp(card, "SIMPLE  ", KEY) == 0) {
        Value value = value_of(card);
        hdu->is_primary = 1;
        return value.size == 1 && value.text[0] == 'T';
    }
    return memcmp(card, "XTENSION", KEY) == 0 && name(card, kind) && strcmp(kind, "IMAGE") == 0;
}

static int next_card(const char *card, Hdu *hdu)
{
    int at;
    if (card[KEY] != '=')
        return 1;
    if ((at = number_of(card, integer_keys, INTEGERS)) >= 0) {
        if (hdu->has_integer >> at & 1)
            return 0;
        hdu->has_integer |= 1u << at;
        return integer(value_of(card), hdu->integers + at);
    }
    if ((at = number_of(card, real_keys, REALS)) >= 0) {
        if (hdu->has_real >> at & 1)
            return 0;
        hdu->has_real |= 1u << at;
        return real(value_of(card), hdu->reals + at);
    }
    if (memcmp(card, "EXTNAME ", KEY) == 0)
        return !hdu->name[0] && name(card, hdu->name) && hdu->name[0];
    return !is_unusual(card);
}

static int is_printable(const uint8_t *text)
{
    int all = 1;
    for (int i = 0; i < BLOCK; i++)
        all &= text[i] >= ' ' && text[i] <= '~';
    return all;
}

static int is_blank(const char *text, int size)
{
    while (size > 0 && text[size - 1] == ' ')
        size--;
    return size == 0;
}

/* Two axes of a size that stamps may have, and all of the data there. */
static int planed(Hdu *hdu, Py_ssize_t start, const uint8_t *data, Py_ssize_t size)
{
    const int64_t *integers = hdu->integers;
    const unsigned wanted = 1u << BITPIX | 1u << NAXIS | 1u << NAXIS1 | 1u << NAXIS2;
    if ((hdu->has_integer & wanted) != wanted || integers[NAXIS] != 2 || integers[PCOUNT] != 0 || integers[GCOUNT] != 1)
        return 0;
    if (integers[NAXIS1] < 1 || integers[NAXIS1] > MAX_SIDE || integers[NAXIS2] < 1 || integers[NAXIS2] > MAX_SIDE)
        return 0;
    if (integers[BITPIX] != -32 && integers[BITPIX] != -64)
        return 0;
    hdu->width = (int)integers[NAXIS1];
    hdu->height = (int)integers[NAXIS2];
    Py_ssize_t length = (Py_ssize_t)hdu->width * hdu->height * (integers[BITPIX] == -32 ? 4 : 8);
    hdu->pixels = data + start;
    hdu->after = start + (length + BLOCK - 1) / BLOCK * BLOCK;
    return length <= size - start;
}

int read_hdu(const uint8_t *data, Py_ssize_t size, Py_ssize_t at, Hdu *hdu)
{
    memset(hdu, 0, sizeof *hdu);
    hdu->integers[GCOUNT] = 1;
    if (at > size - BLOCK || !is_printable(data + at))
        return 0;
    const char *card = (const char *)data + at, *end = card + BLOCK;
    if (!first_card(card, hdu))
        return 0;
    for (card += CARD; card < end; card += CARD) {
        if (memcmp(card, "END     ", KEY) == 0)
            return is_blank(card + KEY, CARD - KEY) && planed(hdu, at + BLOCK, data, size);
        if (!next_card(card, hdu))
            return 0;
    }
    return 0;
}
