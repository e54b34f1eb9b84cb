/* What `broker.native` finds. */

#include "parts.h"

static PyMethodDef methods[] = {
    {"walk", (PyCFunction)(void (*)(void))walk, METH_FASTCALL, walk_doc},
    {"planes", (PyCFunction)(void (*)(void))planes, METH_FASTCALL, planes_doc},
    {"stamp", stamp, METH_VARARGS, stamp_doc},
    {"alert", alert, METH_VARARGS, alert_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "broker._native", "Inner loops of the hot path.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&module);
}
