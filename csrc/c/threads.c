// How many threads the kernels use.
#include "threads.h"

#include "simd.h"

int set_threads(int count) {
    int before = most_threads();
#if defined(_OPENMP)
    if (count > 0) omp_set_num_threads(count);
#else
    (void) count;
#endif
    return before;
}
