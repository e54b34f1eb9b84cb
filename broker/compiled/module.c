/* What `broker.native` finds. */

#include "parts.h"

static PyMethodDef methods[] = {
    {"walk", (PyCFunction)(void (*)(void))py_walk, METH_FASTCALL, walk_doc},
    {"planes", (PyCFunction)(void (*)(void))py_planes, METH_FASTCALL, planes_doc},
    {"stamp", py_stamp, METH_VARARGS, stamp_doc},
    {"alert", py_alert, METH_VARARGS, alert_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "broker._native", "Inner loops of the hot path.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&module);
}
