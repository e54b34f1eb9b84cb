/* The inner loops of the hot path, compiled: a walk of an Avro datum, and a stamp laid on the grid.

   Both have a readable twin in Python, which stands where this is not built and decides what is legal: `walk` takes
   only what is usual, and gives None for the rest. The tests hold the two against each other. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- walk ------------------------------------------------------------------------------------------------------- */

/* A type is a run of numbers in the program: its kind, the slot of its leaf (-1 where it is not wanted), and what
   belongs to the kind. `broker.avro.native` writes it. */
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
        return here[2] > walk->size - at ? UNUSUAL : at + here[2];
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

PyDoc_STRVAR(walk_doc, "walk(program, datum, at, paths, listed)\n--\n\n"
"Walk a datum from a byte on; give the leaves by path and where it ended, or None where it is not usual.");

static PyObject *walk(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
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

/* ---- stamp ------------------------------------------------------------------------------------------------------ */

#define LARGEST_PIXEL 1e30f

/* The k-th smallest, values in its order left and right of it (Hoare's quickselect). */
static float nth(float *values, Py_ssize_t size, Py_ssize_t k)
{
    Py_ssize_t low = 0, high = size - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                float kept = values[i];
                values[i++] = values[j];
                values[j--] = kept;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return values[k];
}

#define LANES 8 /* sums side by side, which the compiler may make one instruction */

/* Root of the mean of the usable variances; 0 where there are none. */
static double noise_of_variance(const float *variance, Py_ssize_t size)
{
    double total[LANES] = {0}, sum = 0.0;
    int32_t usable[LANES] = {0};
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < size; i += LANES)
        for (Py_ssize_t k = 0; k < LANES && i + k < size; k++) {
            int counts = variance[i + k] > 0.0f && variance[i + k] < LARGEST_PIXEL;
            total[k] += counts ? (double)variance[i + k] : 0.0;
            usable[k] += counts;
        }
    for (int k = 0; k < LANES; k++) {
        sum += total[k];
        count += usable[k];
    }
    return count ? sqrt(sum / (double)count) : 0.0;
}

typedef struct {
    int low, high;               /* native pixels, counted from the first that the grid reaches */
    float low_weight, high_weight; /* 0 where there is none */
} Tent;

typedef struct {
    int start, length; /* native pixels that the grid reaches */
} Reach;

/* As `_reach` and `weights` of broker.resampling, to the bit. */
static Reach tents(Tent *tent, int size, int length, double centre, double ratio)
{
    double half = (size - 1) / 2.0 * ratio, first = floor(centre - half), last = floor(centre + half) + 2.0;
    int start = first < 0.0 ? 0 : first > length - 1 ? length - 1 : (int)first;
    int stop = last > length ? length : last < start + 1 ? start + 1 : (int)last;
    length = stop - start;
    for (int i = 0; i < size; i++) {
        float position = (float)(centre - start + (i - (size - 1) / 2.0) * ratio);
        float below = floorf(position);
        int low = below < -2.0f ? -2 : below > (float)length ? length : (int)below, high = low + 1;
        float left = 1.0f - fabsf(position - (float)low), right = 1.0f - fabsf(position - (float)high);
        int has_low = low >= 0 && low < length && left > 0.0f, has_high = high >= 0 && high < length && right > 0.0f;
        tent[i] = (Tent){has_low ? low : 0, has_high ? high : 0, has_low ? left : 0.0f, has_high ? right : 0.0f};
    }
    return (Reach){start, length};
}

/* Rows first, then columns: `between` takes a row of light and one of weights, `reached` the pixels that count. */
static void lay(const float *light, const float *counts, Reach across, const Tent *rows, const Tent *columns, int size,
                float area, float *between, float *out, float *mask)
{
    int width = across.length;
    float *row = between, *weight = between + width;
    for (int i = 0; i < size; i++) {
        const float a = rows[i].low_weight, b = rows[i].high_weight;
        const float *light_low = light + (Py_ssize_t)rows[i].low * width, *light_high = light + (Py_ssize_t)rows[i].high * width;
        const float *low = counts + (Py_ssize_t)rows[i].low * width, *high = counts + (Py_ssize_t)rows[i].high * width;
        for (int x = 0; x < width; x++) {
            row[x] = a * light_low[x] + b * light_high[x];
            weight[x] = a * low[x] + b * high[x];
        }
        for (int j = 0; j < size; j++) {
            const Tent c = columns[j];
            float total = c.low_weight * row[c.low] + c.high_weight * row[c.high];
            float share = c.low_weight * weight[c.low] + c.high_weight * weight[c.high];
            int is_covered = share >= 0.5f;
            out[i * size + j] = is_covered ? total / share * area : 0.0f;
            mask[i * size + j] = is_covered ? 1.0f : 0.0f;
        }
    }
}

/* Which sides of the stamp have no valid pixel at all. */
static int bare_side(const uint8_t *valid, Py_ssize_t height, Py_ssize_t width)
{
    int top = 0, bottom = 0, left = 0, right = 0;
    for (Py_ssize_t j = 0; j < width; j++) {
        top |= valid[j];
        bottom |= valid[(height - 1) * width + j];
    }
    for (Py_ssize_t i = 0; i < height; i++) {
        left |= valid[i * width];
        right |= valid[i * width + width - 1];
    }
    return !(top && bottom && left && right);
}

PyDoc_STRVAR(stamp_doc, "stamp(image, variance, height, width, x, y, ratio, size, has_sky, out, mask)\n--\n\n"
"Lay one stamp on the grid; give sky, noise of a native pixel, invalid pixels, and whether a side has no valid one.");

static PyObject *stamp(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer image = {0}, variance = {0}, out = {0}, mask = {0};
    int height, width, size, has_sky;
    double x, y, ratio;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*z*iidddipw*w*", &image, &variance, &height, &width, &x, &y, &ratio, &size,
                          &has_sky, &out, &mask))
        return NULL;
    Py_ssize_t pixels = (Py_ssize_t)height * width, grid = (Py_ssize_t)size * size;
    uint8_t *valid = NULL;
    float *kept = NULL;
    Tent *rows = NULL;
    if (height < 1 || width < 1 || size < 1 || size > 4096 || image.len != pixels * 4 || out.len != grid * 4 ||
        mask.len != grid * 4 || (variance.buf != NULL && variance.len != pixels * 4)) {
        PyErr_SetString(PyExc_ValueError, "planes and sizes do not agree");
        goto leave;
    }
    valid = PyMem_Malloc(pixels);
    kept = PyMem_Malloc((2 * pixels + 2 * width) * sizeof(float));
    rows = PyMem_Malloc(2 * size * sizeof(Tent));
    if (valid == NULL || kept == NULL || rows == NULL) {
        PyErr_NoMemory();
        goto leave;
    }
    const float *plane = image.buf;
    Py_ssize_t sound = 0;
    for (Py_ssize_t i = 0; i < pixels; i++)
        sound += valid[i] = fabsf(plane[i]) < LARGEST_PIXEL; /* false of NaN */
    float sky = 0.0f;
    double noise = variance.buf == NULL ? 0.0 : noise_of_variance(variance.buf, pixels);
    if (noise == 0.0 && sound) {
        Py_ssize_t n = 0;
        for (Py_ssize_t i = 0; i < pixels; i++)
            if (valid[i])
                kept[n++] = plane[i];
        float middle = nth(kept, n, (Py_ssize_t)(0.5 * (double)(n - 1)));
        noise = (double)middle - (double)nth(kept, n, (Py_ssize_t)(0.16 * (double)(n - 1)));
        sky = has_sky ? middle : 0.0f;
    }
    if (noise > 0.0) {
        Reach down = tents(rows, size, height, y, ratio), across = tents(rows + size, size, width, x, ratio);
        float *light = kept, *counts = kept + pixels;
        for (int i = 0; i < down.length; i++) {
            Py_ssize_t from = (Py_ssize_t)(down.start + i) * width + across.start, to = (Py_ssize_t)i * across.length;
            for (int j = 0; j < across.length; j++) {
                light[to + j] = valid[from + j] ? plane[from + j] - sky : 0.0f;
                counts[to + j] = valid[from + j] ? 1.0f : 0.0f;
            }
        }
        lay(light, counts, across, rows, rows + size, size, (float)(ratio * ratio), kept + 2 * pixels, out.buf, mask.buf);
    }
    int bare = sound < pixels && bare_side(valid, height, width);
    result = Py_BuildValue("(ddnO)", (double)sky, noise, pixels - sound, bare ? Py_True : Py_False);
leave:
    PyMem_Free(rows);
    PyMem_Free(kept);
    PyMem_Free(valid);
    if (mask.obj != NULL)
        PyBuffer_Release(&mask);
    if (out.obj != NULL)
        PyBuffer_Release(&out);
    if (variance.obj != NULL)
        PyBuffer_Release(&variance);
    if (image.obj != NULL)
        PyBuffer_Release(&image);
    return result;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"walk", (PyCFunction)(void (*)(void))walk, METH_FASTCALL, walk_doc},
    {"stamp", stamp, METH_VARARGS, stamp_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "broker._native", "Inner loops of the hot path.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&module);
}
