/* A stamp laid on the grid; its twin is `broker.geometry` with `broker.resampling`. */

#include "parts.h"

#define LARGEST_PIXEL 1e30f

/* Floats as integers in the same order, and back. */
static int32_t ordered(int32_t bits)
{
    return bits ^ ((bits >> 31) & INT32_MAX);
}

static float unordered(int32_t key)
{
    float value;
    key = ordered(key);
    memcpy(&value, &key, 4);
    return value;
}

#define HALVINGS 6 /* of the range, after which only the keys in it are looked at */

/* The k-th smallest of keys between two bounds, which are halved: counting has no branches to foresee, as sorting has. */
WIDE static int32_t nth(const int32_t *keys, int32_t *near, int32_t size, int32_t k, int32_t low, int32_t high)
{
    for (int halvings = 1; low < high; halvings++) {
        int32_t middle = (int32_t)(((int64_t)low + high) >> 1), below = 0, kept = 0, under = 0;
        for (int32_t i = 0; i < size; i++)
            below += keys[i] <= middle;
        if (below > k)
            high = middle;
        else
            low = middle + 1;
        if (halvings % HALVINGS)
            continue;
        for (int32_t i = 0; i < size; i++) {
            int32_t key = keys[i];
            near[kept] = key;
            kept += key >= low && key <= high;
            under += key < low;
        }
        keys = near;
        size = kept;
        k -= under;
    }
    return low;
}

/* The median, and how far below it the 16th percentile lies. */
WIDE static void sky_and_noise(const int32_t *keys, int32_t *near, int32_t size, float *sky, double *noise)
{
    int32_t least = keys[0], most = keys[0];
    for (int32_t i = 0; i < size; i++) {
        least = keys[i] < least ? keys[i] : least;
        most = keys[i] > most ? keys[i] : most;
    }
    int32_t middle = nth(keys, near, size, (int32_t)(0.5 * (double)(size - 1)), least, most);
    int32_t low = nth(keys, near, size, (int32_t)(0.16 * (double)(size - 1)), least, middle);
    *sky = unordered(middle);
    *noise = (double)*sky - (double)unordered(low);
}

/* Root of the mean of the usable variances; 0 where there are none. */
WIDE static double noise_of_variance(const float *variance, Py_ssize_t size)
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

/* Rows first, then columns: `between` takes a row of light and one of weights. */
WIDE static void lay(const float *light, const float *counts, Reach across, const Tent *rows, const Tent *columns, int size,
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
            int is_covered = share >= 0.5f; /* VALID_WEIGHT of broker.resampling */
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

/* Sky and noise of a native pixel, of the variance where it tells; `kept` takes two planes. */
WIDE static void judge(const Stamp *stamp, const uint8_t *valid, Py_ssize_t pixels, float *kept, Found *found)
{
    float middle;
    int32_t *keys = (int32_t *)kept, *near = keys + pixels, n = 0;
    found->sky = 0.0f;
    found->noise = stamp->variance == NULL ? 0.0 : noise_of_variance(stamp->variance, pixels);
    if (found->noise != 0.0 || found->invalid == pixels)
        return;
    for (Py_ssize_t i = 0; i < pixels; i++) {
        int32_t bits;
        memcpy(&bits, stamp->image + i, 4);
        keys[n] = ordered(bits);
        n += valid[i];
    }
    sky_and_noise(keys, near, n, &middle, &found->noise);
    found->sky = stamp->has_sky ? middle : 0.0f;
}

WIDE static int lay_one(const Stamp *stamp, int size, float *out, float *mask, Found *found)
{
    int height = stamp->height, width = stamp->width;
    Py_ssize_t pixels = (Py_ssize_t)height * width;
    uint8_t *valid = PyMem_Malloc(pixels);
    float *kept = PyMem_Malloc((2 * pixels + 2 * width) * sizeof(float));
    Tent *rows = PyMem_Malloc(2 * size * sizeof(Tent));
    int failed = valid == NULL || kept == NULL || rows == NULL;
    if (failed)
        goto leave;
    found->invalid = pixels;
    for (Py_ssize_t i = 0; i < pixels; i++)
        found->invalid -= valid[i] = fabsf(stamp->image[i]) < LARGEST_PIXEL; /* false of NaN */
    judge(stamp, valid, pixels, kept, found);
    if (found->noise > 0.0) {
        Reach down = tents(rows, size, height, stamp->y, stamp->ratio);
        Reach across = tents(rows + size, size, width, stamp->x, stamp->ratio);
        float *light = kept, *counts = kept + pixels;
        for (int i = 0; i < down.length; i++) {
            Py_ssize_t from = (Py_ssize_t)(down.start + i) * width + across.start, to = (Py_ssize_t)i * across.length;
            for (int j = 0; j < across.length; j++) {
                light[to + j] = valid[from + j] ? stamp->image[from + j] - found->sky : 0.0f;
                counts[to + j] = valid[from + j] ? 1.0f : 0.0f;
            }
        }
        lay(light, counts, across, rows, rows + size, size, (float)(stamp->ratio * stamp->ratio), kept + 2 * pixels, out,
            mask);
    }
    found->is_bare = found->invalid > 0 && bare_side(valid, height, width);
leave:
    PyMem_Free(rows);
    PyMem_Free(kept);
    PyMem_Free(valid);
    return -failed;
}

int lay_stamp(const Stamp *stamp, int size, float *out, float *mask, Found *found)
{
    return lay_one(stamp, size, out, mask, found); /* what is chosen when loaded is no symbol that others see */
}

const char stamp_doc[] = "stamp(image, variance, height, width, x, y, ratio, size, has_sky, out, mask)\n--\n\n"
"Lay one stamp on the grid; give sky, noise of a native pixel, invalid pixels, and whether a side has no valid one.";

PyObject *py_stamp(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer image = {0}, variance = {0}, out = {0}, mask = {0};
    int size;
    Stamp given;
    Found found;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*z*iidddipw*w*", &image, &variance, &given.height, &given.width, &given.x, &given.y,
                          &given.ratio, &size, &given.has_sky, &out, &mask))
        return NULL;
    Py_ssize_t pixels = (Py_ssize_t)given.height * given.width, grid = (Py_ssize_t)size * size;
    given.image = image.buf;
    given.variance = variance.buf;
    if (given.height < 1 || given.height > MAX_SIDE || given.width < 1 || given.width > MAX_SIDE || size < 1 ||
        size > MAX_SIDE || image.len != pixels * 4 ||
        out.len != grid * 4 || mask.len != grid * 4 || (variance.buf != NULL && variance.len != pixels * 4))
        PyErr_SetString(PyExc_ValueError, "planes and sizes do not agree");
    else if (lay_stamp(&given, size, out.buf, mask.buf, &found))
        PyErr_NoMemory();
    else
        result = Py_BuildValue("(ddnO)", (double)found.sky, found.noise, found.invalid, found.is_bare ? Py_True : Py_False);
    PyBuffer_Release(&mask);
    PyBuffer_Release(&out);
    PyBuffer_Release(&variance);
    PyBuffer_Release(&image);
    return result;
}
