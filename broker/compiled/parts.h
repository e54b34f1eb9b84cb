/* The inner loops of the hot path, compiled: a walk of an Avro datum, the planes of a stamp, a stamp laid on the grid,
   and the last two for all stamps of an alert.

   Each has a readable twin in Python, which stands where this is not built and decides what is legal: all but `stamp`
   take only what is usual, and give None for the rest. The tests hold each against its twin. Written for GCC and
   Clang. */

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIDE 4096 /* pixels of a stamp or a grid: MAX_SIDE of broker.cutouts */
#define LANES 8 /* sums side by side, which the compiler may make one instruction */

/* A function for processors with AVX2 beside that for all, chosen when the helper is loaded: the same results to the bit,
   as nothing is contracted or reordered (setup.py). Where the C library cannot choose, that for all alone. */
#ifdef WIDE /* -DWIDE= builds that for all alone: the two were compared to the bit so, on 180 stamps of ZTF */
#elif defined(__x86_64__) && defined(__GLIBC__) && !defined(__UCLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* What is read of a stamp: its planes as they lie in the file, and what its header says. */
typedef struct {
    int height, width;
    const uint8_t *image, *variance; /* float32 with the high byte first; no variance in a ZTF stamp */
    double psf_fwhm;                 /* pixels; 0 where there is none */
    double x, y;                     /* pixels, from 0 */
    double scale, north_angle;       /* arcsec, degrees */
    int parity;
} Planes;

/* Whether the stamp is a usual one. */
int read_rubin(const uint8_t *data, Py_ssize_t size, int psf, Planes *planes);
int read_ztf(const uint8_t *data, Py_ssize_t size, Planes *planes);

/* Pixels in the machine's order of bytes. */
void native_singles(const uint8_t *from, float *to, Py_ssize_t pixels);

/* A stamp that is to be laid on the grid. */
typedef struct {
    const float *image, *variance;
    int height, width;
    double x, y, ratio; /* ratio: side of a grid pixel in native ones */
    int has_sky;
} Stamp;

typedef struct {
    float sky;
    double noise; /* of a native pixel; 0 where it cannot be told: nothing is laid then */
    Py_ssize_t invalid;
    int is_bare; /* whether a side has no valid pixel */
} Found;

/* 0, or -1 where there is no memory. */
int lay_stamp(const Stamp *stamp, int size, float *out, float *mask, Found *found);

extern const char walk_doc[], planes_doc[], stamp_doc[], alert_doc[];

PyObject *py_walk(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *py_planes(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *py_stamp(PyObject *module, PyObject *arguments);
PyObject *py_alert(PyObject *module, PyObject *arguments);
