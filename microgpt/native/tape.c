/* A program is a row of instructions {operation, needs, rows, columns, a, b, n, n integers}. Each makes one
 * node, the result of its operation, `rows` x `columns`, from nodes a and b before it; `needs` says whether
 * a gradient is to come back to it. microgpt/native/operations.py writes programs and checks their shapes. */
#include "tape.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"

/* ---------------------------------------------------------------------------------------------- memory */

typedef struct Chunk {
    struct Chunk *before;
    int64_t room, used; /* numbers */
    _Alignas(64) double numbers[];
} Chunk;

typedef struct {
    const int64_t *code;
    double *x, *kept; /* the numbers, and what the operation keeps for the way back */
    double *grad;     /* NULL: nothing came back yet */
    double *turned;   /* the transpose, once someone asked */
    int64_t *given;   /* of a leaf: whether `grad` holds something from an earlier pass */
    long rows, n;
    int needs, own; /* own: nobody else reads `grad` */
    int thin;       /* of `linear`: see is_thin */
} Node;

struct Tape {
    Node *nodes;
    int64_t count, room;
    Chunk *chunk;
    int64_t **programs; /* copies of what was appended */
    int64_t program_count, program_room;
    jmp_buf failed;
};

#define FIRST_CHUNK 32768

static Chunk *chunk_new(Tape *tape, int64_t room) {
    room = (room + 7) & ~(int64_t)7;
    Chunk *chunk = aligned_alloc(64, sizeof(Chunk) + sizeof(double) * (size_t)room);
    if (!chunk) longjmp(tape->failed, NO_MEMORY);
    *chunk = (Chunk){tape->chunk, room, 0};
    return tape->chunk = chunk;
}

static double *take(Tape *tape, int64_t n) {
    Chunk *chunk = tape->chunk;
    if (!chunk || chunk->used + n > chunk->room) {
        int64_t twice = chunk ? 2 * chunk->room : FIRST_CHUNK;
        chunk = chunk_new(tape, n > twice ? n : twice);
    }
    double *numbers = chunk->numbers + chunk->used;
    chunk->used += (n + 7) & ~(int64_t)7; /* what follows begins a cache line */
    return numbers;
}

static double *cleared(double *numbers, int64_t n) {
    return memset(numbers, 0, sizeof(double) * (size_t)n);
}

static double *zeros(Tape *tape, int64_t n) { return cleared(take(tape, n), n); }

static void copy(double *to, const double *from, int64_t n) {
    memcpy(to, from, sizeof(double) * (size_t)n);
}

static int64_t size_of(const Node *node) { return (int64_t)node->rows * node->n; }

static double number_of(int64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* ------------------------------------------------------------------------------------- on the way back */

/* Adds g to a node's gradient: the sum of what came before, and g. What is given may be read by others. */
static void give(Tape *tape, Node *node, double *g) {
    if (!node->needs) return;
    int64_t n = size_of(node);
    if (node->given) { /* a leaf, whose gradient outlives the tape */
        if (*node->given)
            for (int64_t i = 0; i < n; i++) node->grad[i] = node->grad[i] + g[i];
        else if (g != node->grad)
            copy(node->grad, g, n);
        *node->given = 1;
    } else if (!node->grad) {
        node->grad = g;
    } else {
        double *sum = node->own ? node->grad : take(tape, n);
        for (int64_t i = 0; i < n; i++) sum[i] = node->grad[i] + g[i];
        node->grad = sum;
        node->own = 1;
    }
}

/* Where a whole gradient is to be written before it is given: a leaf's own memory if it is free. */
static double *place(Tape *tape, const Node *node) {
    return node->given && !*node->given ? node->grad : take(tape, size_of(node));
}

/* A gradient for b, which was repeated to [rows][n]: summed from left to right, from 0. */
static void give_folded(Tape *tape, Node *b, double *g, long rows, long n) {
    if (!b->needs) return;
    if (b->rows < rows) {
        double *sums = zeros(tape, n);
        for (long i = 0; i < rows; i++)
            for (long j = 0; j < n; j++) sums[j] = sums[j] + g[i * n + j];
        g = sums;
        rows = 1;
    }
    if (b->n < n) {
        double *sums = take(tape, rows);
        for (long i = 0; i < rows; i++) sums[i] = total(g + i * n, n);
        g = sums;
    }
    give(tape, b, g);
}

/* -------------------------------------------------------------------------------------------- operations */

/* What an operation is given: its node, the nodes that it reads, and its integers. */
typedef struct {
    Tape *tape;
    Node *out, *a, *b;
    const int64_t *ints;
    int64_t count;
} Call;

#define FORWARD(name) static void name(Call *c)
#define BACK(name) static void name##_back(Call *c)
#define EACH(i, n_) for (int64_t i = 0, n__ = (n_); i < n__; i++)
#define A_SIZE size_of(c->a)
#define SIZE size_of(c->out)

static int64_t id_below(Call *c, int64_t i, int64_t limit) {
    int64_t id = c->ints[i];
    if (id < 0 || id >= limit) longjmp(c->tape->failed, NO_SUCH_ID);
    return id;
}

static Node *input(Call *c, int64_t i) { return c->tape->nodes + c->ints[i]; }

/* {numbers, gradient, given}: addresses of memory that is Python's. */
FORWARD(leaf) {
    c->out->x = (double *)(intptr_t)c->ints[0];
    c->out->grad = (double *)(intptr_t)c->ints[1];
    c->out->given = (int64_t *)(intptr_t)c->ints[2];
}

FORWARD(detached) { c->out->x = c->a->x; }

FORWARD(gather) {
    long n = c->a->n;
    EACH(t, c->count) copy(c->out->x + t * n, c->a->x + id_below(c, t, c->a->rows) * n, n);
}
BACK(gather) {
    long n = c->a->n;
    double *dx = cleared(place(c->tape, c->a), A_SIZE), *g = c->out->grad;
    EACH(t, c->count)
        for (long j = 0; j < n; j++) dx[c->ints[t] * n + j] = dx[c->ints[t] * n + j] + g[t * n + j];
    give(c->tape, c->a, dx);
}

FORWARD(concat_rows) {
    double *x = c->out->x;
    EACH(i, c->count) {
        copy(x, input(c, i)->x, size_of(input(c, i)));
        x += size_of(input(c, i));
    }
}
BACK(concat_rows) {
    double *g = c->out->grad;
    EACH(i, c->count) {
        give(c->tape, input(c, i), g);
        g += size_of(input(c, i));
    }
}

/* {start} */
FORWARD(columns) {
    EACH(i, c->out->rows) copy(c->out->x + i * c->out->n, c->a->x + i * c->a->n + c->ints[0], c->out->n);
}
BACK(columns) {
    double *dx = zeros(c->tape, A_SIZE);
    EACH(i, c->out->rows)
        for (long j = 0; j < c->out->n; j++)
            dx[i * c->a->n + c->ints[0] + j] = 0.0 + c->out->grad[i * c->out->n + j]; /* -0 becomes 0 */
    give(c->tape, c->a, dx);
}

FORWARD(concat_columns) {
    long at = 0;
    EACH(k, c->count) {
        Node *x = input(c, k);
        EACH(i, x->rows) copy(c->out->x + i * c->out->n + at, x->x + i * x->n, x->n);
        at += x->n;
    }
}
BACK(concat_columns) { /* the last first, as where each is a transpose of its own */
    long at = c->out->n;
    for (int64_t k = c->count - 1; k >= 0; k--) {
        Node *x = input(c, k);
        double *dx = take(c->tape, size_of(x));
        at -= x->n;
        EACH(i, x->rows) copy(dx + i * x->n, c->out->grad + i * c->out->n + at, x->n);
        give(c->tape, x, dx);
    }
}

FORWARD(transposed) { transpose(c->out->x, c->a->x, c->a->rows, c->a->n); }
BACK(transposed) {
    double *dx = take(c->tape, A_SIZE);
    transpose(dx, c->out->grad, c->out->rows, c->out->n);
    give(c->tape, c->a, dx);
}

FORWARD(pick) { EACH(t, c->count) c->out->x[t] = c->a->x[t * c->a->n + id_below(c, t, c->a->n)]; }
BACK(pick) {
    double *dx = zeros(c->tape, A_SIZE);
    EACH(t, c->count) dx[t * c->a->n + c->ints[t]] = c->out->grad[t];
    give(c->tape, c->a, dx);
}

/* b as a function of row and column, where it is one row, one column or one number of a. */
#define PAIRS(expression)                                                           \
    do {                                                                            \
        const double *p = c->a->x, *q = c->b->x;                                    \
        long rows = c->a->rows, n = c->a->n, down = c->b->rows > 1 ? c->b->n : 0;   \
        if (c->b->n == n)                                                           \
            for (long i = 0; i < rows; i++)                                         \
                for (long j = 0; j < n; j++) {                                      \
                    long at = i * n + j;                                            \
                    double x = p[at], y = q[i * down + j];                          \
                    expression;                                                     \
                }                                                                   \
        else                                                                        \
            for (long i = 0; i < rows; i++)                                         \
                for (long j = 0; j < n; j++) {                                      \
                    long at = i * n + j;                                            \
                    double x = p[at], y = q[i * down];                              \
                    expression;                                                     \
                }                                                                   \
    } while (0)

FORWARD(add) {
    double *restrict out = c->out->x;
    PAIRS(out[at] = x + y);
}
BACK(add) {
    give(c->tape, c->a, c->out->grad);
    give_folded(c->tape, c->b, c->out->grad, c->a->rows, c->a->n);
}

FORWARD(mul) {
    double *restrict out = c->out->x;
    PAIRS(out[at] = x * y);
}
BACK(mul) {
    const double *g = c->out->grad;
    if (c->a->needs) {
        double *restrict dx = take(c->tape, SIZE);
        PAIRS((void)x; dx[at] = g[at] * y);
        give(c->tape, c->a, dx);
    }
    if (c->b->needs) {
        double *restrict dy = take(c->tape, SIZE);
        PAIRS((void)y; dy[at] = g[at] * x);
        give_folded(c->tape, c->b, dy, c->a->rows, c->a->n);
    }
}

FORWARD(divide) {
    double *restrict out = c->out->x;
    PAIRS(out[at] = x / y);
}
BACK(divide) {
    const double *g = c->out->grad, *out = c->out->x;
    if (c->a->needs) {
        double *restrict dx = take(c->tape, SIZE);
        PAIRS((void)x; dx[at] = g[at] / y);
        give(c->tape, c->a, dx);
    }
    if (c->b->needs) {
        double *restrict dy = take(c->tape, SIZE);
        PAIRS((void)x; dy[at] = g[at] / y * out[at] * -1.0);
        give_folded(c->tape, c->b, dy, c->a->rows, c->a->n);
    }
}

/* With one number {bits}. */
#define NUMBER number_of(c->ints[0])
#define EACH_OF_A(expression)                                                 \
    do {                                                                      \
        double *restrict out = c->out->x;                                     \
        EACH(i, SIZE) {                                                       \
            double x = c->a->x[i];                                            \
            out[i] = expression;                                              \
        }                                                                     \
    } while (0)
/* x is a number of a, y the result, g its gradient. */
#define EACH_BACK(expression)                                                 \
    do {                                                                      \
        double *restrict dx = take(c->tape, SIZE);                            \
        EACH(i, SIZE) {                                                       \
            double x = c->a->x[i], y = c->out->x[i], g = c->out->grad[i];     \
            (void)x, (void)y;                                                 \
            dx[i] = expression;                                               \
        }                                                                     \
        give(c->tape, c->a, dx);                                              \
    } while (0)

FORWARD(add_number) {
    double number = NUMBER;
    EACH_OF_A(x + number);
}
BACK(add_number) { give(c->tape, c->a, c->out->grad); }

FORWARD(mul_number) {
    double number = NUMBER;
    EACH_OF_A(x * number);
}
BACK(mul_number) {
    double number = NUMBER;
    EACH_BACK(g * number);
}

FORWARD(div_number) {
    double number = NUMBER;
    EACH_OF_A(x / number);
}
BACK(div_number) {
    double number = NUMBER;
    EACH_BACK(g / number);
}

static double *turned(Tape *tape, Node *node) {
    if (!node->turned) {
        node->turned = take(tape, size_of(node));
        transpose(node->turned, node->x, node->rows, node->n);
    }
    return node->turned;
}

#define PART 32 /* rows of a weight that are transposed at once, so that they stay in the nearest cache */

/* A weight in training is met once a pass: its transpose is not kept. */
static void multiply_by_parts(Tape *tape, double *out, const Node *x, const Node *w, double start) {
    int64_t used = tape->chunk ? tape->chunk->used : 0;
    Chunk *chunk = tape->chunk;
    double *part = take(tape, 2 * PART * w->n);
    for (long at = 0, rows; at < w->rows; at += rows) {
        rows = w->rows - at < 2 * PART ? w->rows - at : PART;
        transpose(part, w->x + at * w->n, rows, w->n);
        matmul(out + at, w->rows, (Factor){x->x, x->n, 1}, part, rows, x->rows, x->n, rows, start);
    }
    if (chunk == tape->chunk) chunk->used = used; /* what is taken next lies where `part` did */
}

FORWARD(linear) {
    Node *x = c->a, *w = c->b;
    c->out->thin = is_thin(x->x, x->rows, x->n) && is_finite(w->x, size_of(w));
    double start = c->out->thin ? FROM_ZERO : FROM_FIRST;
    if (w->needs)
        multiply_by_parts(c->tape, c->out->x, x, w, start);
    else
        matmul(c->out->x, w->rows, (Factor){x->x, x->n, 1}, turned(c->tape, w), w->rows, x->rows, x->n,
               w->rows, start);
}
BACK(linear) {
    Node *x = c->a, *w = c->b;
    const double *g = c->out->grad;
    int thin = is_thin(g, x->rows, w->rows);
    if (x->needs) { /* a sum over the outputs */
        double *dx = place(c->tape, x);
        Factor left = {g, w->rows, 1}, right = {w->x, w->n, 1};
        if (thin)
            matmul_thin(dx, x->n, left, right, x->rows, w->rows, w->n, 0);
        else
            matmul(dx, x->n, left, w->x, w->n, x->rows, w->rows, w->n, FROM_FIRST);
        give(c->tape, x, dx);
    }
    if (w->needs) { /* a sum over the rows */
        double *dw = place(c->tape, w);
        Factor left = {g, 1, w->rows}, right = {x->x, x->n, 1};
        if (thin || c->out->thin)
            matmul_thin(dw, w->n, left, right, w->rows, x->rows, x->n, !thin);
        else
            matmul(dw, w->n, left, x->x, x->n, w->rows, x->rows, x->n, FROM_FIRST);
        give(c->tape, w, dw);
    }
}

FORWARD(row_sum) { EACH(i, c->a->rows) c->out->x[i] = total(c->a->x + i * c->a->n, c->a->n); }
BACK(row_sum) {
    double *dx = take(c->tape, A_SIZE);
    EACH(i, c->a->rows) for (long j = 0; j < c->a->n; j++) dx[i * c->a->n + j] = c->out->grad[i];
    give(c->tape, c->a, dx);
}

FORWARD(row_max) { EACH(i, c->a->rows) c->out->x[i] = max_of(c->a->x + i * c->a->n, c->a->n); }

FORWARD(sign) { EACH_OF_A(x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x == 0.0 ? 0.0 : x); }

FORWARD(relu) { EACH_OF_A(x <= 0.0 ? 0.0 : x); }
BACK(relu) { EACH_BACK(y != 0.0 ? g : 0.0); }

FORWARD(exponential) { exp_row(c->out->x, c->a->x, 0.0, SIZE); }
BACK(exponential) { EACH_BACK(g * y); }

FORWARD(logarithm) { EACH_OF_A(exact_log(x)); }
BACK(logarithm) { EACH_BACK(g * (1.0 / x)); }

FORWARD(tangent) { EACH_OF_A(exact_tanh(x)); }
BACK(tangent) { EACH_BACK(g * (1.0 - y * y)); }

FORWARD(power) {
    double number = NUMBER;
    EACH_OF_A(exact_pow(x, number));
}
BACK(power) {
    double number = NUMBER;
    EACH_BACK(g * (number * exact_pow(x, number - 1.0)));
}

FORWARD(softmax) { EACH(i, c->a->rows) softmax_row(c->out->x + i * c->a->n, c->a->x + i * c->a->n, c->a->n); }
BACK(softmax) {
    long n = c->a->n;
    double *dx = take(c->tape, SIZE);
    EACH(i, c->a->rows) softmax_row_back(dx + i * n, c->out->x + i * n, c->out->grad + i * n, n);
    give(c->tape, c->a, dx);
}

/* {bits of eps} */
FORWARD(rmsnorm) {
    c->out->kept = take(c->tape, c->a->rows);
    rmsnorm_rows(c->out->x, c->out->kept, c->a->x, c->a->rows, c->a->n, NUMBER);
}
BACK(rmsnorm) {
    double *dx = take(c->tape, SIZE);
    rmsnorm_rows_back(dx, c->out->grad, c->out->x, c->out->kept, c->a->rows, c->a->n);
    give(c->tape, c->a, dx);
}

/* {targets} */
FORWARD(cross_entropy) {
    long n = c->a->n;
    c->out->kept = take(c->tape, A_SIZE); /* the probabilities */
    EACH(t, c->count)
        c->out->x[t] = cross_entropy_row(c->out->kept + t * n, c->a->x + t * n, n, id_below(c, t, n));
}
BACK(cross_entropy) { /* g (probs - 1 at the target) */
    long n = c->a->n;
    double *dx = take(c->tape, A_SIZE);
    EACH(t, c->count) {
        const double *probs = c->out->kept + t * n;
        double g = c->out->grad[t];
        for (long j = 0; j < n; j++) dx[t * n + j] = probs[j] * g;
        dx[t * n + c->ints[t]] = (probs[c->ints[t]] - 1.0) * g;
    }
    give(c->tape, c->a, dx);
}

/* {v, bias or -1, heads, bits of scale, start, stop, start, stop, ...} */
typedef struct {
    Document part;
    long query, key; /* the first rows */
    double *scaled, *probs;
} Span;

#define SPANS 4

static Document shape_of(Call *c) {
    Node *q = c->a, *v = input(c, 0), *bias = c->ints[1] < 0 ? NULL : input(c, 1);
    long heads = c->ints[2], size = q->n / heads;
    return (Document){0, 0, heads, q->n / v->n, size, bias ? bias->x : NULL, bias ? bias->n : 0,
                      number_of(c->ints[3])};
}

/* The next document that has queries; the numbers kept for it lie behind those of the one before. */
static int next_span(Call *c, int64_t *at, Span *span) {
    long cached = c->b->rows - c->a->rows;
    if (*at == SPANS) span->scaled = c->out->kept, span->probs = c->out->kept + SIZE;
    for (; *at < c->count; *at += 2) {
        long start = c->ints[*at], stop = c->ints[*at + 1], first = start > cached ? start : cached;
        if (first >= stop) continue;
        span->query = first - cached;
        span->key = start;
        span->part.queries = stop - first;
        span->part.keys = stop - start;
        *at += 2;
        return 1;
    }
    return 0;
}

static void past(Span *span) {
    span->probs += span->part.heads * span->part.queries * span->part.keys;
}

static double *attention_memory(Call *c, Document d, int64_t *kept) {
    long cached = c->b->rows - c->a->rows, room = 0;
    *kept = SIZE;
    for (int64_t at = SPANS; at < c->count; at += 2) {
        long start = c->ints[at], stop = c->ints[at + 1], first = start > cached ? start : cached;
        if (first >= stop) continue;
        d.queries = stop - first;
        d.keys = stop - start;
        *kept += d.heads * d.queries * d.keys;
        room = attention_room(&d) > room ? attention_room(&d) : room;
    }
    return take(c->tape, room);
}

FORWARD(attend) {
    Span span = {shape_of(c), 0, 0, NULL, NULL};
    int64_t kept;
    double *room = attention_memory(c, span.part, &kept);
    c->out->kept = take(c->tape, kept);
    long n = c->a->n, kv_n = c->b->n;
    const double *v = input(c, 0)->x;
    for (int64_t at = SPANS; next_span(c, &at, &span); past(&span))
        attention(&span.part, c->out->x + span.query * n, span.scaled + span.query * n, span.probs, room,
                  c->a->x + span.query * n, c->b->x + span.key * kv_n, v + span.key * kv_n);
}
BACK(attend) {
    Span span = {shape_of(c), 0, 0, NULL, NULL};
    int64_t kept;
    double *room = attention_memory(c, span.part, &kept);
    long n = c->a->n, kv_n = c->b->n;
    const double *v = input(c, 0)->x;
    double *dq = take(c->tape, SIZE), *dk = zeros(c->tape, size_of(c->b)), *dv = zeros(c->tape, size_of(c->b));
    for (int64_t at = SPANS; next_span(c, &at, &span); past(&span))
        attention_back(&span.part, dq + span.query * n, dk + span.key * kv_n, dv + span.key * kv_n, room,
                       c->out->grad + span.query * n, span.scaled + span.query * n, span.probs,
                       c->b->x + span.key * kv_n, v + span.key * kv_n);
    give(c->tape, c->a, dq);
    give(c->tape, c->b, dk);
    give(c->tape, input(c, 0), dv);
}

/* In the order of `Op` in microgpt/native/tape.py. */
typedef void (*Operation)(Call *);
static const struct {
    Operation forward, back;
} OPERATIONS[] = {
    {leaf, NULL},
    {detached, NULL},
    {gather, gather_back},
    {concat_rows, concat_rows_back},
    {columns, columns_back},
    {concat_columns, concat_columns_back},
    {transposed, transposed_back},
    {pick, pick_back},
    {add, add_back},
    {mul, mul_back},
    {divide, divide_back},
    {add_number, add_number_back},
    {mul_number, mul_number_back},
    {div_number, div_number_back},
    {linear, linear_back},
    {row_sum, row_sum_back},
    {row_max, NULL},
    {sign, NULL},
    {relu, relu_back},
    {exponential, exponential_back},
    {logarithm, logarithm_back},
    {tangent, tangent_back},
    {power, power_back},
    {softmax, softmax_back},
    {rmsnorm, rmsnorm_back},
    {cross_entropy, cross_entropy_back},
    {attend, attend_back},
};
enum { LEAF, DETACHED };

/* ---------------------------------------------------------------------------------------------- the tape */

#define HEAD 7 /* operation, needs, rows, columns, a, b, n */

static Call call_of(Tape *tape, Node *node) {
    const int64_t *code = node->code;
    return (Call){tape, node, tape->nodes + code[4], tape->nodes + code[5], code + HEAD, code[6]};
}

static void make_room(Tape *tape, int64_t nodes) {
    if (nodes <= tape->room) return;
    int64_t room = 2 * nodes + 64;
    Node *grown = realloc(tape->nodes, sizeof(Node) * (size_t)room);
    if (!grown) longjmp(tape->failed, NO_MEMORY);
    tape->nodes = grown;
    tape->room = room;
}

/* Runs one instruction; returns the next. */
static const int64_t *run_one(Tape *tape, const int64_t *code) {
    make_room(tape, tape->count + 1);
    Node *node = tape->nodes + tape->count;
    *node = (Node){.code = code, .rows = code[2], .n = code[3], .needs = code[1] != 0};
    if (code[0] != LEAF && code[0] != DETACHED) node->x = take(tape, size_of(node));
    Call call = call_of(tape, node);
    OPERATIONS[code[0]].forward(&call);
    tape->count++;
    return code + HEAD + code[6];
}

static void run(Tape *tape, const int64_t *code, int64_t length) {
    for (const int64_t *end = code + length; code < end;) code = run_one(tape, code);
}

static void give_one(Tape *tape, int64_t loss) {
    double *one = take(tape, 1);
    *one = 1.0;
    give(tape, tape->nodes + loss, one);
}

/* The youngest node first: all that was computed from it is done. */
static void back(Tape *tape, int64_t youngest) {
    for (int64_t i = youngest; i >= 0; i--) {
        Node *node = tape->nodes + i;
        if (!node->grad || !node->needs || node->given) continue;
        Operation operation = OPERATIONS[node->code[0]].back;
        Call call = call_of(tape, node);
        if (operation) operation(&call);
        node->grad = NULL;
        node->own = 0;
    }
}

Tape *tape_new(void) { return calloc(1, sizeof(Tape)); }

/* Forgets all nodes. Memory in several chunks becomes one, which holds as much. */
void tape_reset(Tape *tape) {
    int64_t room = 0;
    for (Chunk *chunk = tape->chunk; chunk; chunk = chunk->before) room += chunk->room;
    if (tape->chunk && tape->chunk->before) {
        for (Chunk *before, *chunk = tape->chunk; chunk; chunk = before) {
            before = chunk->before;
            free(chunk);
        }
        tape->chunk = NULL;
        if (!setjmp(tape->failed)) chunk_new(tape, room); /* else the next instruction asks again */
    } else if (tape->chunk) {
        tape->chunk->used = 0;
    }
    for (int64_t i = 0; i < tape->program_count; i++) free(tape->programs[i]);
    tape->program_count = tape->count = 0;
}

void tape_free(Tape *tape) {
    for (Chunk *before, *chunk = tape->chunk; chunk; chunk = before) {
        before = chunk->before;
        free(chunk);
    }
    for (int64_t i = 0; i < tape->program_count; i++) free(tape->programs[i]);
    free(tape->programs);
    free(tape->nodes);
    free(tape);
}

static int64_t bytes_in_use(const Tape *tape) {
    int64_t bytes = 0;
    for (const Chunk *chunk = tape->chunk; chunk; chunk = chunk->before) bytes += 8 * chunk->used;
    return bytes;
}

static const int64_t *kept_program(Tape *tape, const int64_t *program, int64_t length) {
    if (tape->program_count == tape->program_room) {
        int64_t room = 2 * tape->program_room + 16;
        int64_t **grown = realloc(tape->programs, sizeof(int64_t *) * (size_t)room);
        if (!grown) longjmp(tape->failed, NO_MEMORY);
        tape->programs = grown;
        tape->program_room = room;
    }
    int64_t *kept = malloc(sizeof(int64_t) * (size_t)length);
    if (!kept) longjmp(tape->failed, NO_MEMORY);
    memcpy(kept, program, sizeof(int64_t) * (size_t)length);
    return tape->programs[tape->program_count++] = kept;
}

int64_t tape_run(Tape *tape, const int64_t *program, int64_t length) {
    int problem = setjmp(tape->failed);
    if (problem) return problem;
    run(tape, kept_program(tape, program, length), length);
    return bytes_in_use(tape);
}

int tape_give(Tape *tape, int64_t node, double *gradient) {
    int problem = setjmp(tape->failed);
    if (problem) return problem;
    if (gradient)
        give(tape, tape->nodes + node, gradient);
    else
        give_one(tape, node);
    return OK;
}

int tape_backward(Tape *tape, int64_t youngest) {
    int problem = setjmp(tape->failed);
    if (problem) return problem;
    back(tape, youngest);
    return OK;
}

double *tape_numbers(Tape *tape, int64_t node) { return tape->nodes[node].x; }

int tape_replay(Tape *tape, const int64_t *program, int64_t length, int64_t objective, int64_t loss,
                double *value) {
    tape_reset(tape);
    int problem = setjmp(tape->failed);
    if (problem) return problem;
    run(tape, program, length); /* which outlives this call: no copy */
    *value = tape->nodes[loss].x[0];
    if (isfinite(*value)) {
        give_one(tape, objective);
        back(tape, objective);
    }
    return OK;
}

/* ----------------------------------------------------------------------------------------- update rules */

double square_sum(double sum, const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

void adam_step(double *p, const double *g, double *m, double *v, int64_t n, double beta1, double beta2,
               double rate, double eps) {
    double rest1 = 1.0 - beta1, rest2 = 1.0 - beta2;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) { /* a number's results depend on that number alone */
        double first = beta1 * m[i] + rest1 * g[i], second = beta2 * v[i] + rest2 * (g[i] * g[i]);
        m[i] = first;
        v[i] = second;
        p[i] = p[i] - rate * first / (sqrt(second) + eps);
    }
}

const char *compiled_by(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

void function_of(double *out, const double *x, int64_t n, int64_t which, double power) {
    if (which == 0) exp_row(out, x, 0.0, n);
    for (int64_t i = 0; i < n; i++) {
        if (which == 1) out[i] = exact_log(x[i]);
        if (which == 2) out[i] = exact_tanh(x[i]);
        if (which == 3) out[i] = exact_pow(x[i], power);
        if (which == 4) out[i] = exact_exp(x[i]);
    }
}
