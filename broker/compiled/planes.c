/* The planes of a stamp; its twin is `broker.cutouts`. */

#include "cards.h"

#define FWHM_OF_EFFECTIVE_AREA 0.6642824702679601 /* sqrt(2 ln 2 / pi): SMTN-002, as in broker.cutouts */
#define FLAT (1.0 + 1e-9) /* of the area of a plane: as in broker.cutouts */

void native_singles(const uint8_t *from, float *to, Py_ssize_t pixels)
{
    for (Py_ssize_t i = 0; i < pixels; i++) {
        uint32_t bits;
        memcpy(&bits, from + 4 * i, 4);
        bits = __builtin_bswap32(bits);
        memcpy(to + i, &bits, 4);
    }
}

/* As `effective_fwhm` of broker.cutouts; 0 where the plane is no PSF. */
static double effective_fwhm(const Hdu *hdu)
{
    Py_ssize_t pixels = (Py_ssize_t)hdu->height * hdu->width;
    double totals[LANES] = {0}, powers[LANES] = {0}, total = 0.0, power = 0.0;
    for (Py_ssize_t i = 0; i < pixels; i += LANES)
        for (Py_ssize_t k = 0; k < LANES && i + k < pixels; k++) {
            uint64_t bits;
            double value;
            memcpy(&bits, hdu->pixels + 8 * (i + k), 8);
            bits = __builtin_bswap64(bits);
            memcpy(&value, &bits, 8);
            totals[k] += value;
            powers[k] += value * value;
        }
    for (int k = 0; k < LANES; k++) {
        total += totals[k];
        power += powers[k];
    }
    if (!(total > 0.0 && total < 1e100 && power > 1e-100 && power < 1e200))
        return 0.0;
    double area = total * total / power;
    return area <= (double)pixels * FLAT ? FWHM_OF_EFFECTIVE_AREA * sqrt(area) : 0.0;
}

/* Pixel scale (arcsec), angle of north (degrees), parity: as `_orientation` of broker.fits_header, of PC and CDELT. */
static int orientation(const double *reals, double *scale, double *angle, int *parity)
{
    double a = reals[PC1_1] * reals[CDELT1], b = reals[PC1_2] * reals[CDELT1];
    double c = reals[PC2_1] * reals[CDELT2], d = reals[PC2_2] * reals[CDELT2], determinant = a * d - b * c;
    if (!(fabs(determinant) > 0.0 && isfinite(determinant)))
        return 0;
    *scale = 3600.0 * sqrt(fabs(determinant));
    *angle = atan2(b / determinant, a / determinant) * (180.0 / 3.141592653589793);
    *parity = determinant > 0.0 ? 1 : -1;
    return 1;
}

int read_rubin(const uint8_t *data, Py_ssize_t size, int psf, Planes *planes)
{
    const unsigned placed = (1u << REALS) - 1;
    Hdu science, uncertainty, width;
    if (!read_hdu(data, size, 0, &science) || !science.is_primary || science.integers[BITPIX] != -32 ||
        science.has_real != placed ||
        !orientation(science.reals, &planes->scale, &planes->north_angle, &planes->parity))
        return 0;
    if (!read_hdu(data, size, science.after, &uncertainty) || uncertainty.is_primary ||
        strcmp(uncertainty.name, "UNCERT") != 0 || uncertainty.integers[BITPIX] != -32 ||
        uncertainty.height != science.height || uncertainty.width != science.width)
        return 0;
    if (psf && (!read_hdu(data, size, uncertainty.after, &width) || width.is_primary ||
                strcmp(width.name, "PSFIMAGE") != 0 || width.integers[BITPIX] != -64))
        return 0;
    planes->height = science.height;
    planes->width = science.width;
    planes->image = science.pixels;
    planes->variance = uncertainty.pixels;
    planes->psf_fwhm = psf ? effective_fwhm(&width) : 0.0;
    planes->x = science.reals[CRPIX1] - 1.0;
    planes->y = science.reals[CRPIX2] - 1.0;
    return 1;
}

int read_ztf(const uint8_t *data, Py_ssize_t size, Planes *planes)
{
    Hdu only;
    if (!read_hdu(data, size, 0, &only) || !only.is_primary || only.integers[BITPIX] != -32)
        return 0;
    *planes = (Planes){.height = only.height, .width = only.width, .image = only.pixels};
    return 1;
}

static PyObject *singles(const uint8_t *from, const Planes *planes)
{
    Py_ssize_t pixels = (Py_ssize_t)planes->height * planes->width;
    PyObject *plane = PyByteArray_FromStringAndSize(NULL, 4 * pixels);
    if (plane != NULL)
        native_singles(from, (float *)PyByteArray_AS_STRING(plane), pixels);
    return plane;
}

const char planes_doc[] = "planes(data, psf)\n--\n\n"
"Planes of a Rubin stamp: height, width, pixels, variances, width of the PSF or None, x, y, scale, angle, parity; or\n"
"None where it is not usual.";

PyObject *py_planes(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "planes(data, psf)");
        return NULL;
    }
    Py_buffer file;
    int psf = PyObject_IsTrue(arguments[1]);
    if (psf < 0 || PyObject_GetBuffer(arguments[0], &file, PyBUF_SIMPLE))
        return NULL;
    Planes found;
    PyObject *result = NULL, *pixels = NULL, *variances = NULL, *fwhm = NULL;
    if (!read_rubin(file.buf, file.len, psf, &found)) {
        result = Py_NewRef(Py_None);
        goto leave;
    }
    fwhm = found.psf_fwhm > 0.0 ? PyFloat_FromDouble(found.psf_fwhm) : Py_NewRef(Py_None);
    pixels = singles(found.image, &found);
    variances = singles(found.variance, &found);
    if (fwhm != NULL && pixels != NULL && variances != NULL)
        result = Py_BuildValue("(iiOOOddddi)", found.height, found.width, pixels, variances, fwhm, found.x, found.y,
                               found.scale, found.north_angle, found.parity);
leave:
    Py_XDECREF(fwhm);
    Py_XDECREF(pixels);
    Py_XDECREF(variances);
    PyBuffer_Release(&file);
    return result;
}
