/* The arithmetic of the vector engine, bit for bit.
 *
 * IEEE 754 fixes + - * / and the square root; all else is made of these, rounded after each operation. So the
 * compiler may not contract a product and a sum (-ffp-contract=off), and no sum may be taken in another
 * order. Every sum runs over its terms from left to right; what runs side by side in one SIMD register
 * are sums of different results. A matrix is dense: row r of [rows][n] begins at x + r * n.
 */
#ifndef MICROGPT_ARITHMETIC_H
#define MICROGPT_ARITHMETIC_H

#include <stdint.h>

/* microgpt/core/exact.py in C. */
double exact_exp(double x);
double exact_log(double x);
double exact_tanh(double x);
double exact_pow(double x, double power);

/* Where a sum begins: 0 + the first product, or the first product itself, which differs where all
 * products are -0. */
#define FROM_ZERO 0.0
#define FROM_FIRST (-0.0)

double total(const double *x, long n);                  /* from 0 */
double dot(const double *x, const double *y, long n);   /* from the first product */
double max_of(const double *x, long n);                 /* not a number if one of them is none */

/* C [rows][n] = A [rows][terms] times B [terms][n]; A is read at r * a_row + k * a_term, rows of B and C
 * begin ldb and ldc numbers apart. Each sum over the terms begins with `start`. */
typedef struct {
    const double *x;
    long row, term; /* numbers between two rows, between two terms */
} Factor;
void matmul(double *c, long ldc, Factor a, const double *b, long ldb, long rows, long terms, long n,
            double start);

/* Whether more than half of the middle row is 0, as ReLU leaves it. The vector engine leaves the products with
 * such zeros out, if the other factors are finite: its sums begin with 0. */
int is_thin(const double *x, long rows, long n);
int is_finite(const double *x, long n);
/* The same without the terms whose factor in A (or with `skip_b` in B) is 0. */
void matmul_thin(double *c, long ldc, Factor a, Factor b, long rows, long terms, long n, int skip_b);

void transpose(double *out, const double *x, long rows, long n);
void exp_row(double *out, const double *x, double top, long n); /* exp(x - top) */
void softmax_row(double *out, const double *x, long n);
void softmax_row_back(double *dx, const double *probs, const double *g, long n);
void rmsnorm_rows(double *out, double *scales, const double *x, long rows, long n, double eps);
void rmsnorm_rows_back(double *dx, const double *g, const double *out, const double *scales, long rows,
                       long n);
double cross_entropy_row(double *probs, const double *logits, long n, long target);

/* One document's attention. q and out are [queries][heads * size], k and v [keys][heads / share * size];
 * the queries belong to the last keys, and each sees the keys up to its own. */
typedef struct {
    long queries, keys, heads, share, size;
    const double *bias; /* [heads][bias_length] by distance, or NULL */
    long bias_length;
    double scale;
} Document;
/* `scaled` [queries][heads * size] and `probs` [heads][queries][keys] are kept for the way back. */
void attention(const Document *d, double *out, double *scaled, double *probs, double *room,
               const double *q, const double *k, const double *v);
/* dk and dv are overwritten. */
void attention_back(const Document *d, double *dq, double *dk, double *dv, double *room, const double *g,
                    const double *scaled, const double *probs, const double *k, const double *v);
long attention_room(const Document *d); /* numbers of scratch memory that both need */

#endif
