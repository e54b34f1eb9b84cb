/* All stamps of an alert on the grid, where each of them is usual; its twin is `lay` of broker.geometry. */

#include "parts.h"

#define ROLES 3 /* science, template, difference */
#define TEMPLATE 1
#define DIFFERENCE 2

/* What all stamps of an alert share. */
typedef struct {
    int is_ztf;
    double x, y;         /* in a ZTF stamp, which does not tell */
    int smallest;        /* pixels of a side: a smaller ZTF stamp was cut at the detector's edge */
    double nominal;      /* arcsec per native pixel */
    double least, most;  /* what a Rubin stamp may state instead */
    double grid_scale;   /* arcsec per grid pixel */
    double averaging;    /* BILINEAR_NOISE of broker.resampling */
    int size;
} Shared;

static int is_inside(double coordinate, int length)
{
    return coordinate + 0.5 >= 0.0 && coordinate + 0.5 <= (double)length;
}

static int read_stamp(const Py_buffer *file, int role, const Shared *shared, Planes *planes)
{
    if (!shared->is_ztf)
        return read_rubin(file->buf, file->len, role == 0, planes) && planes->scale >= shared->least &&
               planes->scale <= shared->most && is_inside(planes->x, planes->width) &&
               is_inside(planes->y, planes->height);
    if (!read_ztf(file->buf, file->len, planes) || planes->width < shared->smallest || planes->height < shared->smallest)
        return 0;
    planes->x = shared->x;
    planes->y = shared->y;
    planes->scale = shared->nominal;
    return is_inside(planes->x, planes->width) && is_inside(planes->y, planes->height);
}

/* Lay a stamp and give its noise on the grid: 0 where it cannot be told; -1 where there is no memory. */
static float lay_planes(const Planes *planes, int role, const Shared *shared, float *out, float *mask, Found *found)
{
    Py_ssize_t pixels = (Py_ssize_t)planes->height * planes->width;
    float *image = PyMem_Malloc(2 * pixels * sizeof(float));
    if (image == NULL)
        return -1.0f;
    double ratio = shared->grid_scale / planes->scale;
    Stamp stamp = {image, NULL, planes->height, planes->width, planes->x, planes->y, ratio, shared->is_ztf && role < DIFFERENCE};
    native_singles(planes->image, image, pixels);
    if (planes->variance != NULL) {
        native_singles(planes->variance, image + pixels, pixels);
        stamp.variance = image + pixels;
    }
    int failed = lay_stamp(&stamp, shared->size, out, mask, found);
    PyMem_Free(image);
    return failed ? -1.0f : (float)(found->noise * (ratio * ratio) * shared->averaging);
}

static long covered_pixels(const float *mask, int size)
{
    long covered = 0;
    for (Py_ssize_t i = 0; i < (Py_ssize_t)size * size; i++)
        covered += mask[i] > 0.0f;
    return covered;
}

/* Light and valid pixels around the middle of the grid. */
static void near_middle(const float *out, const float *mask, int size, int reach, double *light, long *pixels)
{
    *light = 0.0;
    *pixels = 0;
    for (int i = size / 2 - reach; i < size - size / 2 + reach; i++)
        for (int j = size / 2 - reach; j < size - size / 2 + reach; j++) {
            *light += out[(Py_ssize_t)i * size + j];
            *pixels += mask[(Py_ssize_t)i * size + j] > 0.0f;
        }
}

/* What Python is told of a stamp: covered grid pixels, invalid native pixels, native pixels, whether a side is bare. */
static PyObject *told(const Planes *planes, const Found *found, long covered)
{
    return Py_BuildValue("(lnnO)", covered, found->invalid, (Py_ssize_t)planes->height * planes->width,
                         found->is_bare ? Py_True : Py_False);
}

const char alert_doc[] = "alert(cutouts, place, nominal, least, most, grid_scale, averaging, size, reach, out, mask, noise)\n--\n\n"
"Lay the three stamps of an alert on the grid; give width of the PSF (arcsec) or None, light and pixels near the\n"
"template's middle, and of each stamp covered grid pixels, invalid native pixels, native pixels and whether a side is\n"
"bare; or None where one is not usual. `place` is (x, y, smallest side) in inflated stamps of ZTF, None for Rubin's.";

PyObject *py_alert(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *cutouts, *place, *result = NULL, *fwhm = NULL, *stamps[ROLES] = {0};
    Py_buffer out = {0}, mask = {0}, noise = {0}, files[ROLES] = {0};
    Shared shared = {0};
    Planes planes[ROLES];
    long pixels;
    double light;
    int reach, held = 0;
    if (!PyArg_ParseTuple(arguments, "O!Odddddiiw*w*w*", &PyTuple_Type, &cutouts, &place, &shared.nominal, &shared.least,
                          &shared.most, &shared.grid_scale, &shared.averaging, &shared.size, &reach, &out, &mask, &noise))
        return NULL;
    Py_ssize_t grid = (Py_ssize_t)shared.size * shared.size;
    shared.is_ztf = place != Py_None;
    if (PyTuple_GET_SIZE(cutouts) != ROLES || shared.size < 1 || shared.size > MAX_SIDE || reach < 0 ||
        2 * reach > shared.size - 1 || out.len != ROLES * grid * 4 || mask.len != out.len || noise.len != ROLES * 4 ||
        (shared.is_ztf && !PyTuple_Check(place))) {
        PyErr_SetString(PyExc_ValueError, "three cutouts, a place or None, and planes of the size are wanted");
        goto leave;
    }
    if (shared.is_ztf && !PyArg_ParseTuple(place, "ddi", &shared.x, &shared.y, &shared.smallest))
        goto leave;
    for (; held < ROLES; held++)
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(cutouts, held), files + held, PyBUF_SIMPLE))
            goto leave;
    for (int role = 0; role < ROLES; role++)
        if (!read_stamp(files + role, role, &shared, planes + role))
            goto unusual;
    for (int role = 0; role < ROLES; role++) {
        float *to = (float *)out.buf + role * grid, *valid = (float *)mask.buf + role * grid;
        Found found;
        float of_grid = lay_planes(planes + role, role, &shared, to, valid, &found);
        if (of_grid < 0.0f) {
            PyErr_NoMemory();
            goto leave;
        }
        long covered = of_grid > 0.0f ? covered_pixels(valid, shared.size) : 0;
        if (covered == 0)
            goto unusual;
        ((float *)noise.buf)[role] = of_grid;
        if ((stamps[role] = told(planes + role, &found, covered)) == NULL)
            goto leave;
    }
    near_middle((float *)out.buf + TEMPLATE * grid, (float *)mask.buf + TEMPLATE * grid, shared.size, reach, &light, &pixels);
    fwhm = planes[0].psf_fwhm > 0.0 ? PyFloat_FromDouble(planes[0].psf_fwhm * planes[0].scale) : Py_NewRef(Py_None);
    if (fwhm != NULL)
        result = Py_BuildValue("(Odl(OOO))", fwhm, light, pixels, stamps[0], stamps[1], stamps[2]);
    goto leave;
unusual:
    result = Py_NewRef(Py_None);
leave:
    Py_XDECREF(fwhm);
    for (int role = 0; role < ROLES; role++)
        Py_XDECREF(stamps[role]);
    while (held > 0)
        PyBuffer_Release(files + --held);
    PyBuffer_Release(&noise);
    PyBuffer_Release(&mask);
    PyBuffer_Release(&out);
    return result;
}
