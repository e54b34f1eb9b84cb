/* The inner loops of the hot path, compiled: a walk of an Avro datum, the planes of a stamp, and a stamp laid on the grid.

   Each has a readable twin in Python, which stands where this is not built and decides what is legal: `walk` and
   `planes` take only what is usual, and give None for the rest. The tests hold each against its twin. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* sums side by side, which the compiler may make one instruction */

extern const char walk_doc[], planes_doc[], stamp_doc[];

PyObject *walk(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *planes(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *stamp(PyObject *module, PyObject *arguments);
