/* An HDU of a FITS file as `cards.c` reads it. */

#include "parts.h"

#define KEY 8 /* characters of a keyword */

enum { CRPIX1, CRPIX2, PC1_1, PC1_2, PC2_1, PC2_2, CDELT1, CDELT2, REALS };
enum { BITPIX, NAXIS, NAXIS1, NAXIS2, PCOUNT, GCOUNT, INTEGERS };

/* An HDU whose header fills one block, as all of Rubin's do. */
typedef struct {
    char name[KEY + 1]; /* EXTNAME; empty where there is none */
    int is_primary;
    int64_t integers[INTEGERS];
    double reals[REALS];
    unsigned has_integer, has_real; /* bits */
    int height, width;
    const uint8_t *pixels;
    Py_ssize_t after; /* where the next HDU begins */
} Hdu;

/* Read the HDU at an offset; whether it is usual, with all of its data there. */
int read_hdu(const uint8_t *data, Py_ssize_t size, Py_ssize_t at, Hdu *hdu);
