/* A walk of an Avro datum by a program: see `broker.avro.program`, which writes it. */

#include "parts.h"

/* A type is a run of numbers in the program: its kind, the slot of its leaf (-1 where it is not wanted), and what
   belongs to the kind. `broker.avro.program` writes it. */
enum {
    NULL_ = 0, BOOLEAN, INT, LONG, MICROS, MILLIS, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, RECORD, UNION, ARRAY
};

#define DEEPEST 64
#define LONGEST_USUAL 127 /* of a string among the items of an array: LONGEST_STRING of broker.avro.pattern */

/* Years 1 to 9999: TIMESTAMP_RANGE of broker.avro.exact. */
#define EARLIEST_MS (-62135596800000LL)
#define LATEST_MS 253402300799999LL

typedef struct {
    const int32_t *program;
    Py_ssize_t length;
    const uint8_t *data;
    Py_ssize_t size;
    PyObject *view;     /* of the datum, which stamps are cut from */
    PyObject **values;  /* by slot; owned */
    Py_ssize_t slots;
} Walk;

enum { GONE_WRONG = -1, UNUSUAL = -2 };

static Py_ssize_t varint(const Walk *walk, Py_ssize_t at, int most, int64_t *value)
{
    uint64_t raw = 0;
    for (int n = 0; n < most && at < walk->size; n++) {
        uint8_t byte = walk->data[at++];
        if (n == 9 && byte > 1)
            return UNUSUAL;
        if (n == 4 && most == 5 && byte > 0x0f)
            return UNUSUAL;
        raw |= (uint64_t)(byte & 0x7f) << (7 * n);
        if (byte < 0x80) {
            *value = (int64_t)(raw >> 1) ^ -(int64_t)(raw & 1);
            return at;
        }
    }
    return UNUSUAL;
}

static int put(Walk *walk, int32_t slot, PyObject *value)
{
    if (value == NULL)
        return GONE_WRONG;
    Py_XSETREF(walk->values[slot], value);
    return 0;
}

static int is_ascii(const uint8_t *text, Py_ssize_t size)
{
    uint8_t all = 0;
    for (Py_ssize_t i = 0; i < size; i++)
        all |= text[i];
    return all < 0x80;
}

static Py_ssize_t sized(Walk *walk, Py_ssize_t at, int64_t *size)
{
    Py_ssize_t after = varint(walk, at, 10, size);
    if (after < 0)
        return after;
    return (*size < 0 || *size > walk->size - after) ? UNUSUAL : after;
}

static Py_ssize_t string(Walk *walk, Py_ssize_t at, int32_t slot, int in_array)
{
    int64_t size;
    Py_ssize_t after = sized(walk, at, &size);
    if (after < 0)
        return after;
    const char *text = (const char *)walk->data + after;
    int plain = is_ascii(walk->data + after, size);
    if (in_array && (!plain || size > LONGEST_USUAL || after - at != (size > 63 ? 2 : 1)))
        return UNUSUAL;
    if (slot >= 0 || !plain) {
        PyObject *value = PyUnicode_DecodeUTF8(text, size, NULL);
        if (value == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
                return GONE_WRONG;
            PyErr_Clear();
            return UNUSUAL;
        }
        if (slot < 0)
            Py_DECREF(value);
        else if (put(walk, slot, value))
            return GONE_WRONG;
    }
    return after + size;
}

static Py_ssize_t bytes(Walk *walk, Py_ssize_t at, int32_t slot)
{
    int64_t size;
    Py_ssize_t after = sized(walk, at, &size);
    if (after < 0 || slot < 0)
        return after < 0 ? after : after + size;
    return put(walk, slot, PySequence_GetSlice(walk->view, after, after + size)) ? GONE_WRONG : after + size;
}

static Py_ssize_t number(Walk *walk, Py_ssize_t at, int32_t kind, int32_t slot)
{
    int64_t value;
    at = varint(walk, at, kind == INT ? 5 : 10, &value);
    if (at < 0)
        return at;
    if (kind == MICROS && (value < 1000 * EARLIEST_MS || value > 1000 * LATEST_MS + 999))
        return UNUSUAL;
    if (kind == MILLIS && (value < EARLIEST_MS || value > LATEST_MS))
        return UNUSUAL;
    return slot >= 0 && put(walk, slot, PyLong_FromLongLong(value)) ? GONE_WRONG : at;
}

static Py_ssize_t real(Walk *walk, Py_ssize_t at, int32_t kind, int32_t slot)
{
    Py_ssize_t size = kind == FLOAT ? 4 : 8;
    if (size > walk->size - at)
        return UNUSUAL;
    if (slot >= 0) {
        double value;
        float single;
        if (kind == FLOAT) {
            memcpy(&single, walk->data + at, 4);
            value = single;
        } else
            memcpy(&value, walk->data + at, 8);
        if (put(walk, slot, PyFloat_FromDouble(value)))
            return GONE_WRONG;
    }
    return at + size;
}

static Py_ssize_t boolean(Walk *walk, Py_ssize_t at, int32_t slot)
{
    if (at >= walk->size || walk->data[at] > 1)
        return UNUSUAL;
    return slot >= 0 && put(walk, slot, PyBool_FromLong(walk->data[at])) ? GONE_WRONG : at + 1;
}

static Py_ssize_t node(Walk *walk, Py_ssize_t where, Py_ssize_t at, int in_array, int depth);

/* ARRAY slot(-1) least count slots[count] items.. */
static Py_ssize_t array(Walk *walk, Py_ssize_t where, Py_ssize_t at, int depth)
{
    const int32_t *here = walk->program + where;
    int64_t least = here[2];
    int32_t below = here[3];
    Py_ssize_t items = where + 4 + below;
    PyObject *lists[16] = {0};
    Py_ssize_t result = UNUSUAL;
    if (below > 16)
        return UNUSUAL;
    for (int32_t i = 0; i < below; i++) { /* the list is put aside while its slot takes the items */
        lists[i] = walk->values[here[4 + i]];
        walk->values[here[4 + i]] = NULL;
    }
    for (;;) {
        int64_t count, stated = -1;
        Py_ssize_t end = 0;
        if ((at = varint(walk, at, 10, &count)) < 0)
            goto leave;
        if (count < 0) {
            if ((at = varint(walk, at, 10, &stated)) < 0)
                goto leave;
            if (stated < 0 || stated > walk->size - at || count == INT64_MIN)
                goto leave;
            end = at + stated;
            count = -count;
        }
        if (count > (walk->size - at) / least)
            goto leave;
        for (int64_t n = 0; n < count; n++) {
            at = node(walk, items, at, 1, depth + 1);
            if (at < 0) {
                result = at;
                goto leave;
            }
            for (int32_t i = 0; i < below; i++) {
                PyObject **value = walk->values + here[4 + i];
                int failed = PyList_Append(lists[i], *value ? *value : Py_None);
                Py_CLEAR(*value);
                if (failed) {
                    result = GONE_WRONG;
                    goto leave;
                }
            }
        }
        if (stated >= 0 && at != end)
            goto leave;
        if (count == 0) {
            result = at;
            goto leave;
        }
    }
leave:
    for (int32_t i = 0; i < below; i++)
        Py_XSETREF(walk->values[here[4 + i]], lists[i]);
    return result;
}

static Py_ssize_t node(Walk *walk, Py_ssize_t where, Py_ssize_t at, int in_array, int depth)
{
    const int32_t *here = walk->program + where;
    int32_t slot = here[1];
    if (depth > DEEPEST)
        return UNUSUAL;
    switch (here[0]) {
    case NULL_:
        return at;
    case BOOLEAN:
        return boolean(walk, at, slot);
    case INT:
    case LONG:
    case MICROS:
    case MILLIS:
        return number(walk, at, here[0], slot);
    case FLOAT:
    case DOUBLE:
        return real(walk, at, here[0], slot);
    case BYTES:
        return bytes(walk, at, slot);
    case STRING:
        return string(walk, at, slot, in_array);
    case FIXED: /* FIXED slot(-1) size */
        return here[2] < 0 || here[2] > walk->size - at ? UNUSUAL : at + here[2];
    case ENUM: { /* ENUM slot(-1) symbols */
        int64_t index;
        at = varint(walk, at, 5, &index);
        return at < 0 || index < 0 || index >= here[2] ? UNUSUAL : at;
    }
    case RECORD: /* RECORD slot(-1) count places[count]: of the fields, from here on */
        for (int32_t i = 0; i < here[2] && at >= 0; i++)
            at = node(walk, where + here[3 + i], at, in_array, depth + 1);
        return at;
    case UNION: /* as RECORD, of the branches; an index of one byte */
        if (at >= walk->size || (walk->data[at] & 0x81) || walk->data[at] >> 1 >= here[2])
            return UNUSUAL;
        return node(walk, where + here[3 + (walk->data[at] >> 1)], at + 1, in_array, depth + 1);
    case ARRAY:
        return array(walk, where, at, depth);
    default:
        return UNUSUAL;
    }
}

const char walk_doc[] = "walk(program, datum, at, paths, listed)\n--\n\n"
"Walk a datum from a byte on; give the leaves by path and where it ended, or None where it is not usual.";

PyObject *py_walk(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 5 || !PyTuple_Check(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "walk(program, datum, at, paths, listed)");
        return NULL;
    }
    PyObject *paths = arguments[3], *leaves = NULL, *result = NULL;
    Py_ssize_t at = PyLong_AsSsize_t(arguments[2]), listed = PyLong_AsSsize_t(arguments[4]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer program, datum;
    if (PyObject_GetBuffer(arguments[0], &program, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(arguments[1], &datum, PyBUF_SIMPLE)) {
        PyBuffer_Release(&program);
        return NULL;
    }
    Walk state = {program.buf, program.len / 4, datum.buf, datum.len, arguments[1], NULL, PyTuple_GET_SIZE(paths)};
    state.values = PyMem_Calloc(state.slots + 1, sizeof(PyObject *));
    if (state.values == NULL) {
        PyErr_NoMemory();
        goto leave;
    }
    for (Py_ssize_t i = listed; i < state.slots; i++) /* those of arrays come last */
        if (put(&state, i, PyList_New(0)))
            goto leave;
    Py_ssize_t end = node(&state, 0, at, 0, 0);
    if (end == GONE_WRONG)
        goto leave;
    if (end < 0) {
        result = Py_NewRef(Py_None);
        goto leave;
    }
    if ((leaves = PyDict_New()) == NULL)
        goto leave;
    for (Py_ssize_t i = 0; i < state.slots; i++)
        if (PyDict_SetItem(leaves, PyTuple_GET_ITEM(paths, i), state.values[i] ? state.values[i] : Py_None))
            goto leave;
    result = Py_BuildValue("(On)", leaves, end);
leave:
    Py_XDECREF(leaves);
    for (Py_ssize_t i = 0; state.values != NULL && i < state.slots; i++)
        Py_XDECREF(state.values[i]);
    PyMem_Free(state.values);
    PyBuffer_Release(&datum);
    PyBuffer_Release(&program);
    return result;
}
