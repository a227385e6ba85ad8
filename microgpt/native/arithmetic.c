#include "arithmetic.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* ------------------------------------------------------------------------------------------ exponential */

typedef unsigned __int128 u128;
typedef __int128 i128;

#define ROUND 6755399441055744.0 /* 1.5 * 2^52 */
#define FARTHEST 600.0           /* beyond it, a part of a node could overflow or underflow */
#define NODES 76800              /* 600 * 128 on each side of 0 */

static const u128 LN2 = ((u128)0xB17217F7D1CF79ABULL << 64) | 0xC9E3B39803F2F6AFULL; /* ln 2 * 2^128 */

/* e^g for g = k / 128: the double next to it, and what that leaves out. Zeros: not there yet. */
static double table[2 * NODES + 1][2];

/* The upper 128 bits of a product. */
static u128 product_high(u128 a, u128 b) {
    uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    u128 low = (u128)a0 * b0, left = (u128)a0 * b1, right = (u128)a1 * b0;
    u128 middle = (low >> 64) + (uint64_t)left + (uint64_t)right;
    return (u128)a1 * b1 + (left >> 64) + (right >> 64) + (middle >> 64);
}

/* exact._exp_integer: e^x = 2^n (1 + fraction / 2^128), for x = numerator / 2^128; of the numerator the
 * lower 128 bits are given. The integers are Python's, cut at the same bits. */
static u128 exp_fraction(double x, u128 numerator, long *n) {
    *n = (long)floor(x / 0.6931471805599453); /* by a little less than ln 2: it may be one too many */
    u128 rest = numerator - (u128)(i128)*n * LN2;
    if (rest >= LN2) {
        rest += LN2;
        *n -= 1;
    }
    u128 sum = 0, term = rest;
    for (unsigned i = 2; term; i++) {
        sum += term;
        term = product_high(term, rest) / i;
    }
    return sum;
}

/* The integer x / 2^drop, rounded to even. */
static u128 rounded(u128 x, long drop) {
    u128 unit = (u128)1 << drop, quotient = x >> drop, rest = x & (unit - 1), half = unit >> 1;
    return quotient + (rest > half || (rest == half && (quotient & 1)));
}

static void add_node(long k) {
    long n;
    u128 fraction = exp_fraction((double)k / 128.0, (u128)(i128)k << 121, &n);
    u128 upper = rounded(fraction, 76); /* of 52 bits */
    double unit = ldexp(1.0, (int)n - 128);
    double *node = table[k + NODES];
    node[1] = (double)(i128)(fraction - (upper << 76)) * unit;
    double high = ldexp(4503599627370496.0 + (double)(uint64_t)upper, 76) * unit;
    __atomic_store(&node[0], &high, __ATOMIC_RELEASE); /* last: another thread may be reading */
}

/* e^x where a part of a node could overflow or underflow: the fraction rounded once. */
static double exp_extreme(double x) {
    if (!(x > -746.0 && x < 710.0)) return x < 0.0 ? 0.0 : x + INFINITY; /* nan + inf is nan */
    int exponent;
    i128 mantissa = (i128)ldexp(frexp(x, &exponent), 53);
    long n;
    u128 fraction = exp_fraction(x, (u128)mantissa << (75 + exponent), &n);
    long bits = n >= -1022 ? 53 : 53 + n + 1022; /* that the result has room for */
    if (bits < 0) return 0.0;
    long drop = 129 - bits; /* of 1 + fraction, 129 bits */
    if (drop == 129) return fraction ? ldexp(1.0, -1074) : 0.0; /* above half the least double, or at it */
    u128 kept;
    if (drop == 128) /* the leading 1 alone is left: the next bit decides */
        kept = 1 + (fraction >> 127);
    else
        kept = rounded(fraction, drop) + ((u128)1 << (128 - drop));
    return ldexp((double)(uint64_t)kept, (int)(n - 128 + drop));
}

/* high + (low + high * (e^r - 1)), as exact.exp has it. */
INLINE double exp_near(double high, double low, double r) {
    return high + (low + high * (r + r * r * (1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r / 120)))));
}

INLINE int is_near(double x) { return x >= -FARTHEST && x <= FARTHEST; }

INLINE const double *node_of(double x, double *g) {
    double multiple = (x * 128.0 + ROUND) - ROUND;
    long k = (long)multiple;
    const double *node = table[k + NODES];
    if (__builtin_expect(node[0] == 0.0, 0)) add_node(k);
    *g = multiple / 128.0;
    return node;
}

double exact_exp(double x) {
    if (!is_near(x)) return exp_extreme(x);
    double g;
    const double *node = node_of(x, &g);
    return exp_near(node[0], node[1], x - g);
}

#define CHUNK 64

/* Table look-ups first, then the polynomials side by side. */
static void exp_chunk(double *out, const double *x, double top, long n) {
    double high[CHUNK], low[CHUNK], r[CHUNK], far[CHUNK];
    int any_far = 0;
    for (long i = 0; i < n; i++) {
        double a = x[i] - top, g;
        far[i] = a;
        if (!is_near(a)) {
            any_far = 1;
            a = 0.0;
        }
        const double *node = node_of(a, &g);
        high[i] = node[0];
        low[i] = node[1];
        r[i] = a - g;
    }
    for (long i = 0; i < n; i++) out[i] = exp_near(high[i], low[i], r[i]);
    if (any_far)
        for (long i = 0; i < n; i++)
            if (!is_near(far[i])) out[i] = exp_extreme(far[i]);
}

void exp_row(double *out, const double *x, double top, long n) {
    for (long i = 0; i < n; i += CHUNK) exp_chunk(out + i, x + i, top, n - i < CHUNK ? n - i : CHUNK);
}

/* -------------------------------------------------------------------------- logarithm, tangent, powers */

double exact_log(double x) {
    if (!(x > 0.0 && x < INFINITY)) return x == 0.0 ? -INFINITY : x > 0.0 ? x : NAN;
    int k;
    double m = frexp(x, &k);
    if (m < 0.7071067811865476) {
        m = 2.0 * m;
        k -= 1;
    }
    double f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double tail = 2.0 / 13 + z * (2.0 / 15 + z * (2.0 / 17 + z * (2.0 / 19 + z * (2.0 / 21))));
    tail = z * (2.0 / 3 + z * (2.0 / 5 + z * (2.0 / 7 + z * (2.0 / 9 + z * (2.0 / 11 + z * tail)))));
    double half = 0.5 * f * f;
    return k * 0.6931471803691238 - ((half - (s * (half + tail) + k * 1.9082149292705877e-10)) - f);
}

double exact_tanh(double x) {
    double a = fabs(x);
    if (a < 0.75) {
        double z = a * a;
        double w = 11.0 + z / (13.0 + z / (15.0 + z / 17.0));
        w = z / (3.0 + z / (5.0 + z / (7.0 + z / (9.0 + z / w))));
        return copysign(a - a * (w / (1.0 + w)), x);
    }
    return copysign(1.0 - 2.0 / (exact_exp(2.0 * a) + 1.0), x);
}

/* base^exponent by products alone; a whole number in a double may be larger than any integer type. */
static double whole_power(double base, double exponent) {
    double result = 1.0;
    while (exponent > 0.0) {
        double half = floor(exponent / 2.0);
        if (exponent - 2.0 * half != 0.0) result *= base;
        base *= base;
        exponent = half;
    }
    return result;
}

double exact_pow(double x, double power) {
    if (power < 0.0) {
        double below = exact_pow(x, -power);
        int odd = fmod(power, 2.0) == -1.0;
        return below != 0.0 ? 1.0 / below : copysign(INFINITY, odd ? x : 1.0);
    }
    if (fmod(2.0 * power, 1.0) != 0.0) return exact_exp(power * exact_log(x));
    double whole = floor(power), root = 1.0;
    if (power != whole) root = x >= 0.0 ? sqrt(x) : NAN;
    return whole_power(x, whole) * root;
}

/* ------------------------------------------------------------------------------------------------- sums */

double total(const double *x, long n) {
    double sum = 0.0;
    for (long i = 0; i < n; i++) sum += x[i];
    return sum;
}

double dot(const double *x, const double *y, long n) {
    double sum = FROM_FIRST;
    for (long i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

double max_of(const double *x, long n) {
    double top = x[0];
    int numbers = 1;
    for (long i = 0; i < n; i++) {
        numbers &= x[i] == x[i];
        top = x[i] > top ? x[i] : top;
    }
    return numbers ? top : NAN;
}

/* --------------------------------------------------------------------------------------------- products */

#define UNROLL _Pragma("GCC unroll 8")

/* A block of `rows` x `count` vectors of C: each lane is one result, whose terms are added one by one. */
#define DEFINE_BLOCK(WIDTH)                                                                             \
    typedef double vec##WIDTH __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));           \
    INLINE void block##WIDTH(const int rows, const int count, double *c, long ldc, Factor a,            \
                             const double *b, long ldb, long terms, double start) {                    \
        vec##WIDTH sums[4][4], zeros = start - (vec##WIDTH){0};                                         \
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < count; i++) sums[r][i] = zeros; \
        for (long k = 0; k < terms; k++) {                                                              \
            vec##WIDTH y[4];                                                                            \
            UNROLL for (int i = 0; i < count; i++)                                                      \
                y[i] = *(const vec##WIDTH *)(b + k * ldb + WIDTH * i);                                  \
            UNROLL for (int r = 0; r < rows; r++) {                                                     \
                double x = a.x[r * a.row + k * a.term];                                                 \
                UNROLL for (int i = 0; i < count; i++) sums[r][i] = sums[r][i] + x * y[i];              \
            }                                                                                           \
        }                                                                                               \
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < count; i++)                    \
            *(vec##WIDTH *)(c + r * ldc + WIDTH * i) = sums[r][i];                                      \
    }                                                                                                   \
    /* All rows of `count` vectors of columns. */                                                       \
    INLINE void panel##WIDTH(const int count, double *c, long ldc, Factor a, const double *b, long ldb, \
                             long rows, long terms, double start) {                                    \
        for (; rows >= 4; rows -= 4, c += 4 * ldc, a.x += 4 * a.row)                                    \
            block##WIDTH(4, count, c, ldc, a, b, ldb, terms, start);                                    \
        if (rows == 3) block##WIDTH(3, count, c, ldc, a, b, ldb, terms, start);                         \
        if (rows == 2) block##WIDTH(2, count, c, ldc, a, b, ldb, terms, start);                         \
        if (rows == 1) block##WIDTH(1, count, c, ldc, a, b, ldb, terms, start);                         \
    }

#if defined(__AVX512F__)
#define WIDEST 8
#define MOST 4 /* vectors of columns at once: 4 x 4 sums fit into 32 registers */
#elif defined(__AVX__)
#define WIDEST 4
#define MOST 3
#else
#define WIDEST 2
#define MOST 3
#endif

DEFINE_BLOCK(1)
DEFINE_BLOCK(2)
#if WIDEST >= 4
DEFINE_BLOCK(4)
#endif
#if WIDEST >= 8
DEFINE_BLOCK(8)
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define PANEL JOIN(panel, WIDEST)
#define PANEL_AT(panel, count, at) panel(count, c + (at), ldc, a, b + (at), ldb, rows, terms, start)

void matmul(double *c, long ldc, Factor a, const double *b, long ldb, long rows, long terms, long n,
            double start) {
    long at = 0;
    for (; n - at >= MOST * WIDEST; at += MOST * WIDEST) PANEL_AT(PANEL, MOST, at);
#if MOST > 3
    if (n - at >= 3 * WIDEST) {
        PANEL_AT(PANEL, 3, at);
        at += 3 * WIDEST;
    }
#endif
    if (n - at >= 2 * WIDEST) {
        PANEL_AT(PANEL, 2, at);
        at += 2 * WIDEST;
    }
    if (n - at >= WIDEST) {
        PANEL_AT(PANEL, 1, at);
        at += WIDEST;
    }
    if (at < n && n >= WIDEST) { /* the last columns with some before them, which come out the same again */
        PANEL_AT(PANEL, 1, n - WIDEST);
        return;
    }
#if WIDEST > 4
    if (n - at >= 4) {
        PANEL_AT(panel4, 1, at);
        at += 4;
        if (at < n) {
            PANEL_AT(panel4, 1, n - 4);
            return;
        }
    }
#endif
#if WIDEST > 2
    if (n - at >= 2) {
        PANEL_AT(panel2, 1, at);
        at += 2;
    }
#endif
    if (n - at >= 1) PANEL_AT(panel1, 1, at);
}

int is_thin(const double *x, long rows, long n) {
    long zeros = 0;
    for (long i = 0; i < n; i++) zeros += x[rows / 2 * n + i] == 0.0;
    return 2 * zeros > n;
}

int is_finite(const double *x, long n) {
    int finite = 1;
    for (long i = 0; i < n; i++) finite &= fabs(x[i]) < INFINITY;
    return finite;
}

void matmul_thin(double *c, long ldc, Factor a, Factor b, long rows, long terms, long n, int skip_b) {
    matmul(c, ldc, a, b.x, b.row, rows, terms, n, FROM_ZERO);
    int numbers = 1;
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < n; i++) numbers &= c[r * ldc + i] == c[r * ldc + i];
    if (numbers) return; /* a term with a factor 0 changes no other sum */
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < n; i++) {
            double sum = 0.0;
            for (long k = 0; k < terms; k++) {
                double x = a.x[r * a.row + k * a.term], y = b.x[k * b.row + i];
                if ((skip_b ? y : x) != 0.0) sum += x * y;
            }
            c[r * ldc + i] = sum;
        }
}

void transpose(double *out, const double *x, long rows, long n) {
    for (long j = 0; j < n; j++)
        for (long i = 0; i < rows; i++) out[j * rows + i] = x[i * n + j];
}

/* ------------------------------------------------------------------------------------------ fused, a row */

void softmax_row(double *out, const double *x, long n) {
    exp_row(out, x, max_of(x, n), n);
    double scale = 1.0 / total(out, n);
    for (long i = 0; i < n; i++) out[i] = out[i] * scale;
}

void softmax_row_back(double *dx, const double *probs, const double *g, long n) {
    double mean = 0.0;
    for (long i = 0; i < n; i++) mean += probs[i] * g[i];
    for (long i = 0; i < n; i++) dx[i] = probs[i] * (g[i] - mean);
}

void rmsnorm_rows(double *out, double *scales, const double *x, long rows, long n, double eps) {
    for (long r = 0; r < rows; r++, x += n, out += n) {
        double scale = scales[r] = 1.0 / sqrt(dot(x, x, n) / (double)n + eps);
        for (long i = 0; i < n; i++) out[i] = x[i] * scale;
    }
}

void rmsnorm_rows_back(double *dx, const double *g, const double *out, const double *scales, long rows,
                       long n) {
    for (long r = 0; r < rows; r++, dx += n, g += n, out += n) {
        double mean = dot(g, out, n) / (double)n, scale = scales[r];
        for (long i = 0; i < n; i++) dx[i] = scale * (g[i] - out[i] * mean);
    }
}

double cross_entropy_row(double *probs, const double *logits, long n, long target) {
    softmax_row(probs, logits, n);
    return -exact_log(probs[target]);
}

/* -------------------------------------------------------------------------------------------- attention */

/* y += w x, one term of each sum. */
INLINE void add_term(double *restrict y, double w, const double *restrict x, long n) {
    if (n == 4)
        for (long i = 0; i < 4; i++) y[i] = y[i] + w * x[i];
    else if (n == 16)
        for (long i = 0; i < 16; i++) y[i] = y[i] + w * x[i];
    else
        for (long i = 0; i < n; i++) y[i] = y[i] + w * x[i];
}

long attention_room(const Document *d) {
    long kv_width = d->heads / d->share * d->size;
    return d->keys * kv_width + d->heads * d->queries * d->keys;
}

/* [heads][queries][keys]: products of each head's part of x with that of y, which `turned` has room for. */
static void head_products(const Document *d, double *out, double *turned, const double *x, const double *y) {
    long width = d->heads * d->size, kv_width = width / d->share, block = d->queries * d->keys;
    transpose(turned, y, d->keys, kv_width);
    for (long h = 0; h < d->heads; h++) {
        Factor part = {x + h * d->size, width, 1};
        matmul(out + h * block, d->keys, part, turned + h / d->share * d->size * d->keys, d->keys,
               d->queries, d->size, d->keys, FROM_FIRST);
    }
}

void attention(const Document *d, double *out, double *scaled, double *probs, double *room,
               const double *q, const double *k, const double *v) {
    long width = d->heads * d->size, kv_width = width / d->share, before = d->keys - d->queries;
    for (long i = 0; i < d->queries * width; i++) scaled[i] = q[i] * d->scale;
    head_products(d, probs, room, scaled, k);
    for (long h = 0; h < d->heads; h++)
        for (long t = 0; t < d->queries; t++) {
            long seen = before + t + 1;
            double *p = probs + (h * d->queries + t) * d->keys;
            if (d->bias)
                for (long s = 0; s < seen; s++) p[s] += d->bias[h * d->bias_length + seen - 1 - s];
            softmax_row(p, p, seen);
            matmul(out + t * width + h * d->size, width, (Factor){p, 0, 1},
                   v + h / d->share * d->size, kv_width, 1, seen, d->size, FROM_ZERO);
        }
}

void attention_back(const Document *d, double *dq, double *dk, double *dv, double *room, const double *g,
                    const double *scaled, const double *probs, const double *k, const double *v) {
    long size = d->size, width = d->heads * size, kv_width = width / d->share;
    long before = d->keys - d->queries;
    double *scores = room + d->keys * kv_width; /* their gradient */
    head_products(d, scores, room, g, v);
    memset(dk, 0, sizeof(double) * (size_t)(d->keys * kv_width));
    memset(dv, 0, sizeof(double) * (size_t)(d->keys * kv_width));
    /* A key's sum runs over its queries, and within a query over the heads that share the key. */
    for (long t = 0; t < d->queries; t++)
        for (long h = 0; h < d->heads; h++) {
            long seen = before + t + 1, at = t * width + h * size, kv_at = h / d->share * size;
            const double *p = probs + (h * d->queries + t) * d->keys;
            double *ds = scores + (h * d->queries + t) * d->keys;
            softmax_row_back(ds, p, ds, seen);
            matmul(dq + at, width, (Factor){ds, 0, 1}, k + kv_at, kv_width, 1, seen, size, FROM_ZERO);
            for (long i = 0; i < size; i++) dq[at + i] = dq[at + i] * d->scale;
            for (long s = 0; s < seen; s++) {
                add_term(dk + s * kv_width + kv_at, ds[s], scaled + at, size);
                add_term(dv + s * kv_width + kv_at, p[s], g + at, size);
            }
        }
}
