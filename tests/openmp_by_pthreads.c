// What gcc's OpenMP asks of its run-time library, in pthreads: for tests/kernels/test_sanitizers.py alone.
//
// The thread sanitizer understands pthreads but not libgomp, and would report every barrier as a race.  Work is handed
// out with relaxed atomics, which order nothing: what two threads touch without a barrier between is a race.
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { LOOPS = 16 };        // loops of one region that may be under way, since `nowait` lets threads run ahead

typedef struct { long number, next, end, step, chunk; } loop;
typedef struct {
    void (*work)(void *);
    void *data;
    int size;
    pthread_barrier_t barrier;
    pthread_mutex_t lock;
    loop loops[LOOPS];
} team;
typedef struct { team *team; int number; } member;

static int threads = 4;
static pthread_mutex_t critical = PTHREAD_MUTEX_INITIALIZER;
static __thread team *mine;
static __thread int number;
static __thread long started;

int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return mine ? mine->size : 1; }
int omp_get_max_threads(void) { return threads; }
int omp_in_parallel(void) { return mine && mine->size > 1; }
void omp_set_num_threads(int count) { threads = count; }
void GOMP_critical_start(void) { pthread_mutex_lock(&critical); }
void GOMP_critical_end(void) { pthread_mutex_unlock(&critical); }
void GOMP_atomic_start(void) { pthread_mutex_lock(&critical); }
void GOMP_atomic_end(void) { pthread_mutex_unlock(&critical); }
void GOMP_barrier(void) { if (omp_in_parallel()) pthread_barrier_wait(&mine->barrier); }

static void *run(void *argument) {
    member *m = argument;
    mine = m->team;
    number = m->number;
    started = 0;
    m->team->work(m->team->data);
    return NULL;
}

static void region(team *t, unsigned count) {
    team *outer = mine;
    int outer_number = number;
    long outer_started = started;
    t->size = outer && outer->size > 1 ? 1 : count ? (int) count : threads;                // a region inside a region has one thread
    pthread_barrier_init(&t->barrier, NULL, (unsigned) t->size);
    pthread_mutex_init(&t->lock, NULL);
    pthread_t *others = malloc(sizeof *others * (size_t) t->size);
    member *members = malloc(sizeof *members * (size_t) t->size);
    for (int i = 0; i < t->size; i++) members[i] = (member) {t, i};
    for (int i = 1; i < t->size; i++)
        if (pthread_create(&others[i], NULL, run, &members[i])) abort();
    run(&members[0]);
    for (int i = 1; i < t->size; i++) pthread_join(others[i], NULL);
    free(members);
    free(others);
    pthread_mutex_destroy(&t->lock);
    pthread_barrier_destroy(&t->barrier);
    mine = outer;
    number = outer_number;
    started = outer_started;
}

void GOMP_parallel(void (*work)(void *), void *data, unsigned count, unsigned flags) {
    (void) flags;
    team t = {.work = work, .data = data};
    region(&t, count);
}

// Loops whose iterations go to whoever asks next.
static bool next_part(loop *l, long *from, long *to) {
    long begin = __atomic_fetch_add(&l->next, l->step * l->chunk, __ATOMIC_RELAXED);
    if (l->step > 0 ? begin >= l->end : begin <= l->end) return false;
    long end = begin + l->step * l->chunk;
    *from = begin;
    *to = (l->step > 0 ? end > l->end : end < l->end) ? l->end : end;
    return true;
}
static loop *current(void) { return &mine->loops[started % LOOPS]; }

bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to) { return next_part(current(), from, to); }
bool GOMP_loop_nonmonotonic_dynamic_start(long begin, long end, long step, long chunk, long *from, long *to) {
    static __thread team alone;
    if (!mine) mine = &alone, alone.size = 1, pthread_mutex_init(&alone.lock, NULL), started = 0;
    started++;
    loop *l = current();
    pthread_mutex_lock(&mine->lock);                                    // the first to arrive sets the loop up
    if (l->number != started) *l = (loop) {started, begin, end, step, chunk};
    pthread_mutex_unlock(&mine->lock);
    return next_part(l, from, to);
}
void GOMP_parallel_loop_nonmonotonic_dynamic(void (*work)(void *), void *data, unsigned count, long begin, long end,
                                             long step, long chunk, unsigned flags) {
    (void) flags;
    team t = {.work = work, .data = data, .loops = {{0, begin, end, step, chunk}}};
    region(&t, count);
}
void GOMP_loop_end(void) { GOMP_barrier(); }
void GOMP_loop_end_nowait(void) {}
