/* The tape: a program of integers, run forward and back. */
#ifndef MICROGPT_TAPE_H
#define MICROGPT_TAPE_H

#include <stdint.h>

#define API __attribute__((visibility("default")))

typedef struct Tape Tape;

/* What a function returns where it cannot go on; microgpt/native/tape.py has the words. */
enum { OK = 0, NO_MEMORY = -1, NO_SUCH_ID = -2 };

API Tape *tape_new(void);
API void tape_free(Tape *tape);
API void tape_reset(Tape *tape);
/* Appends a program and runs it; returns the bytes of memory in use, or what went wrong. */
API int64_t tape_run(Tape *tape, const int64_t *program, int64_t length);
/* Adds a gradient to that of a node; NULL stands for 1. */
API int tape_give(Tape *tape, int64_t node, double *gradient);
/* Takes the gradients of the nodes up to the youngest to the leaves, whose gradients they are added to. */
API int tape_backward(Tape *tape, int64_t youngest);
API double *tape_numbers(Tape *tape, int64_t node);
/* A whole pass of a recorded program: its loss into *value and, if that is finite, back. */
API int tape_replay(Tape *tape, const int64_t *program, int64_t length, int64_t objective, int64_t loss,
                    double *value);

/* sum + the squares of n numbers. */
API double square_sum(double sum, const double *x, int64_t n);
/* Adam's step, in place. */
API void adam_step(double *p, const double *g, double *m, double *v, int64_t n, double beta1, double beta2,
                   double rate, double eps);
API const char *compiled_by(void);
/* For the tests: of n numbers exp (0, or 4 one by one), log (1), tanh (2), x^power (3). */
API void function_of(double *out, const double *x, int64_t n, int64_t which, double power);

#endif
